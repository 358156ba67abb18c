// SPDX-License-Identifier: BSL-1.0
// The parts of an emitted configuration space: BARs, the two lists of capabilities, and those
// capabilities that need more than their header.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/description.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/express.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::pcie {

namespace detail {

// A BAR's size decides which address bits exist, and sizing finds just that.
template <std::size_t Bytes>
[[nodiscard]] result<> emit_bars(config_image<Bytes>& image, std::uint16_t first,
                                 const bar_descriptions& bars) noexcept {
  for (std::uint32_t i = 0; i < bars.size(); ++i) {
    const bar_description& b = bars[i];
    if (b.kind == bar_kind::absent) continue;
    const std::uint64_t least = b.kind == bar_kind::io ? 4 : 16;
    const std::uint64_t most = b.kind == bar_kind::io         ? 0x1'0000
                               : b.kind == bar_kind::memory32 ? 0x8000'0000
                                                              : std::uint64_t{1} << 63;
    if (!is_power_of_two(b.size) || b.size < least || b.size > most) {
      return failure(errc::invalid_argument, "a BAR's size is not one that a BAR can have", b.size)
          .at(i);
    }
    const std::uint16_t offset = plus(first, 4 * i);
    const std::uint64_t address_bits = ~(b.size - 1);
    const auto low = static_cast<std::uint32_t>(address_bits);
    if (b.kind == bar_kind::io) {
      image.set32(offset, bar_register{}.with(bar_register::io, true).raw);
      image.set_writable(offset, 4, low & ~bar_register::io_flags);
      continue;
    }
    const bool wide = b.kind == bar_kind::memory64;
    image.set32(offset, bar_register{}
                            .with(bar_register::memory_type,
                                  wide ? bar_register::type_64 : bar_register::type_32)
                            .with(bar_register::prefetchable, b.prefetchable)
                            .raw);
    image.set_writable(offset, 4, low & ~bar_register::memory_flags);
    if (!wide) continue;
    if (i + 1 == bars.size() || bars[i + 1].kind != bar_kind::absent) {
      return failure(errc::overlap, "a 64-bit BAR takes the next one's place too", i + 1).at(i);
    }
    image.set_writable(plus(offset, 4), 4, static_cast<std::uint32_t>(address_bits >> 32));
  }
  return {};
}

// Appends capabilities to the two lists, each after the last, on dwords.
template <std::size_t Bytes>
class capability_chain {
 public:
  explicit capability_chain(config_image<Bytes>& image) noexcept : image_(image) {}

  // The offset of a new capability of `bytes` (its two-byte header included), linked in.
  [[nodiscard]] result<std::uint16_t> add(capability_id id, std::size_t bytes) noexcept {
    if (bytes < 2 || bytes > conventional_config_bytes - next_) {
      return failure(errc::exhausted, "the capabilities do not fit into 256 bytes", bytes);
    }
    const std::uint16_t at = next_;
    image_.set8(at, static_cast<std::uint8_t>(id));
    image_.set8(link_, static_cast<std::uint8_t>(at));
    const status_register status{image_.read16(header::status)};
    image_.set16(header::status, status.with(status_register::capabilities_list, true).raw);
    link_ = plus(at, 1);
    next_ = plus(next_, static_cast<unsigned>(bytes + 3) & ~3U);
    return at;
  }
  [[nodiscard]] result<std::uint16_t> add(extended_capability_id id, std::uint8_t version,
                                          unsigned bytes) noexcept {
    if (bytes > Bytes - next_extended_) {
      return failure(errc::exhausted,
                     "the extended capabilities do not fit into the configuration space", bytes);
    }
    using header = extended_capability_header;
    const std::uint16_t at = next_extended_;
    image_.set32(at, header{}.with(header::id, id).with(header::version, version).raw);
    if (last_extended_ != 0) {
      const header last{image_.read32(last_extended_)};
      image_.set32(last_extended_, last.with(header::next, at).raw);
    }
    last_extended_ = at;
    next_extended_ = plus(next_extended_, (bytes + 3) & ~3U);
    return at;
  }

 private:
  config_image<Bytes>& image_;
  std::uint16_t link_ = header::capabilities;
  std::uint16_t next_ = header::end;
  std::uint16_t last_extended_ = 0;
  std::uint16_t next_extended_ = Bytes > first_extended_capability
                                     ? first_extended_capability
                                     : static_cast<std::uint16_t>(Bytes);
};

[[nodiscard]] inline result<> check_msix(const function_description& d,
                                         const msix_description& m) noexcept {
  if (m.vectors == 0 || m.vectors > msix::max_vectors) {
    return failure(errc::out_of_range, "MSI-X has 1 to 2048 vectors", m.vectors);
  }
  const auto inside = [&](unsigned index, std::uint32_t offset, std::uint32_t bytes) {
    if (index >= d.bars.size() || offset % 8 != 0) return false;
    const bar_description& b = d.bars[index];
    return b.kind != bar_kind::absent && b.kind != bar_kind::io && bytes <= b.size &&
           offset <= b.size - bytes;
  };
  const std::uint32_t table = msix_table_bytes(m.vectors);
  const std::uint32_t pba = msix_pba_bytes(m.vectors);
  if (!inside(m.table_bar, m.table_offset, table)) {
    return failure(errc::out_of_range, "the MSI-X table lies in no memory BAR", m.table_offset);
  }
  if (!inside(m.pba_bar, m.pba_offset, pba)) {
    return failure(errc::out_of_range, "the MSI-X pending bits lie in no memory BAR", m.pba_offset);
  }
  if (m.table_bar == m.pba_bar && m.table_offset < std::uint64_t{m.pba_offset} + pba &&
      m.pba_offset < std::uint64_t{m.table_offset} + table) {
    return failure(errc::overlap, "the MSI-X table and its pending bits overlap", m.pba_offset);
  }
  return {};
}

template <std::size_t Bytes>
[[nodiscard]] result<std::uint16_t> emit_express(config_image<Bytes>& image,
                                                 capability_chain<Bytes>& chain,
                                                 const express_description& e) noexcept {
  const auto at = chain.add(capability_id::pci_express, express::capability_bytes);
  if (!at) return at;
  using control = device_control;
  image.set16(plus(*at, express::capabilities), express_capabilities{}
                                                    .with(express_capabilities::version, 2)
                                                    .with(express_capabilities::type, e.type)
                                                    .raw);
  image.set32(plus(*at, express::device_capabilities),
              device_capabilities{}
                  .with(device_capabilities::max_payload_size, e.max_payload)
                  .with(device_capabilities::extended_tag, true)
                  .with(device_capabilities::role_based_error_reporting, true)
                  .with(device_capabilities::function_level_reset, e.function_level_reset)
                  .raw);
  // Reset value of Max_Read_Request_Size: 512 bytes (7.5.3.4).
  image.set16(plus(*at, express::device_control),
              control{}.with(control::max_read_request_size, 2).raw);
  // Initiate Function Level Reset reads as zero: who owns the image acts on the write.
  image.set_writable(plus(*at, express::device_control), 2, 0x7fff);
  image.set_cleared_by_ones(plus(*at, express::device_status), 2,
                            device_status::write_one_to_clear);
  if (e.type == port_type::integrated_endpoint) return at;  // no link (7.5.3)
  image.set32(plus(*at, express::link_capabilities),
              link_capabilities{}
                  .with(link_capabilities::max_speed, e.link_speed)
                  .with(link_capabilities::max_width, e.link_width)
                  .raw);
  image.set16(plus(*at, express::link_status), link_status{}
                                                   .with(link_status::speed, e.link_speed)
                                                   .with(link_status::width, e.link_width)
                                                   .raw);
  // Speeds 1 to max, bit 1 being 2.5 GT/s (7.5.3.18).
  image.set32(plus(*at, express::link_capabilities_2), ((1U << e.link_speed) - 1) << 1);
  image.set16(plus(*at, express::link_control_2), e.link_speed);
  return at;
}

template <std::size_t Bytes>
[[nodiscard]] result<std::uint16_t> emit_sriov(config_image<Bytes>& image,
                                               capability_chain<Bytes>& chain,
                                               const sriov_description& s) noexcept {
  if (s.total_vfs == 0 || s.first_vf_offset == 0 || (s.total_vfs > 1 && s.vf_stride == 0)) {
    return failure(errc::invalid_argument, "virtual functions need a count, an offset and a stride",
                   s.total_vfs);
  }
  const auto at = chain.add(extended_capability_id::sriov, 1, sriov::capability_bytes);
  if (!at) return at;
  image.set_writable(plus(*at, sriov::control), 2,
                     sriov_control{}
                         .with(sriov_control::vf_enable, true)
                         .with(sriov_control::vf_memory_space, true)
                         .with(sriov_control::ari_capable_hierarchy, true)
                         .raw);
  image.set16(plus(*at, sriov::initial_vfs), s.total_vfs);
  image.set16(plus(*at, sriov::total_vfs), s.total_vfs);
  image.set_writable(plus(*at, sriov::num_vfs), 2, 0xffff);
  image.set16(plus(*at, sriov::first_vf_offset), s.first_vf_offset);
  image.set16(plus(*at, sriov::vf_stride), s.vf_stride);
  image.set16(plus(*at, sriov::vf_device_id), s.vf_device_id);
  image.set32(plus(*at, sriov::supported_page_sizes), s.supported_page_sizes);
  image.set32(plus(*at, sriov::system_page_size), 1);
  image.set_writable(plus(*at, sriov::system_page_size), 4, s.supported_page_sizes);
  for (std::uint32_t i = 0; i < s.vf_bars.size(); ++i) {
    const bar_description& b = s.vf_bars[i];
    if (b.kind == bar_kind::io || (b.kind != bar_kind::absent && b.size < 4096)) {
      return failure(errc::invalid_argument,
                     "a VF BAR is memory, of at least one system page (9.3.3.14)", b.size)
          .at(i);
    }
  }
  const auto bars = emit_bars(image, plus(*at, sriov::vf_bar0), s.vf_bars);
  if (!bars) return bars.error();
  return at;
}

}  // namespace detail

}  // namespace phasebit::pcie
