// SPDX-License-Identifier: BSL-1.0
// The description of a function: the input of the emitter. Aggregates with defaults, to be written
// with designated initialisers.
#pragma once

#include <phasebit/pcie/spec/acs_capability.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/express.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::pcie {

// `size` is a power of two, in bytes; a 64-bit BAR leaves the next one absent.
struct bar_description {
  bar_kind kind = bar_kind::absent;
  std::uint64_t size = 0;
  bool prefetchable = false;
};

// By BAR number.
using bar_descriptions = std::array<bar_description, type0_bars>;

// Where table and pending bits lie: memory BARs of the same function, offsets multiples of 8.
struct msix_description {
  std::uint16_t vectors = 1;
  std::uint8_t table_bar = 0;
  std::uint8_t pba_bar = 0;
  std::uint32_t table_offset = 0;
  std::uint32_t pba_offset = 0;
};

struct express_description {
  port_type type = port_type::endpoint;
  bool function_level_reset = true;
  std::uint8_t max_payload = 1;  // 128 bytes << value
  std::uint8_t link_speed = 4;   // 16 GT/s
  std::uint8_t link_width = 4;
};

struct aer_description {
  bool ecrc_generation = false;
  bool ecrc_check = false;
  bool surprise_down = false;  // downstream ports
};

// A BAR whose size the host chooses: bit n of `sizes` is 1 MiB << n.
struct resizable_bar_description {
  std::uint8_t bar = 0;
  std::uint32_t sizes = 0;
};

struct sriov_description {
  std::uint16_t total_vfs = 0;
  std::uint16_t first_vf_offset = 1;
  std::uint16_t vf_stride = 1;
  std::uint16_t vf_device_id = 0;
  std::uint32_t supported_page_sizes = 0x553;  // 4K, 8K, 64K, 256K, 1M, 4M: what 9.3.3.13 demands
  bar_descriptions vf_bars{};
  std::span<const resizable_bar_description> resizable_vf_bars{};  // read during emission only
};

// A function with an address translation cache (10.5.1). It takes `queue_depth` invalidations at
// once, 1 to 32.
struct ats_description {
  std::uint8_t queue_depth = 32;
};

// A function that requests pages (10.5.2): at most `capacity` requests in flight.
struct page_request_description {
  std::uint32_t capacity = 64;
  bool response_pasid_required = false;
};

// A function with several address spaces (7.8.8): PASIDs of `width` bits, 1 to 20.
struct pasid_description {
  std::uint8_t width = 20;
  bool execute = false;     // Execute Requested may be set
  bool privileged = false;  // Privileged Mode Requested may be set
};

// Any other capability: `body` follows its two header bytes. `writable` has ones where the host may
// write, and is empty for read-only. Both are read during emission only.
struct capability_description {
  capability_id id = capability_id::vendor_specific;
  std::span<const std::byte> body{};
  std::span<const std::byte> writable{};
};

struct function_description {
  std::uint16_t vendor_id = 0;
  std::uint16_t device_id = 0;
  std::uint32_t class_code = 0;  // base, sub, interface: 0x010802 is NVMe
  std::uint8_t revision_id = 0;
  std::uint16_t subsystem_vendor_id = 0;
  std::uint16_t subsystem_id = 0;
  bool multi_function = false;
  std::uint8_t interrupt_pin = 0;
  // For a virtual function the BARs are those its physical one assigns: they are not emitted, but
  // MSI-X is checked against them.
  bool virtual_function = false;
  bar_descriptions bars{};
  bool power_management = false;
  std::optional<msix_description> msix{};
  std::optional<express_description> express{};
  std::optional<sriov_description> sriov{};
  std::optional<std::uint8_t> ari_next_function{};
  std::optional<ats_description> ats{};
  std::optional<page_request_description> page_requests{};
  std::optional<pasid_description> pasid{};
  std::optional<std::uint64_t> serial_number{};
  std::optional<aer_description> aer{};
  std::optional<acs_capability> acs{};                          // the services that there are
  std::span<const resizable_bar_description> resizable_bars{};  // read during emission only
  std::span<const capability_description> capabilities{};
};

struct bridge_description {
  std::uint16_t vendor_id = 0;
  std::uint16_t device_id = 0;
  std::uint8_t revision_id = 0;
  bool multi_function = false;
  bool io_window = true;
  bool prefetchable_window = true;
  bool ari_forwarding = true;
  std::optional<aer_description> aer{};
  std::optional<acs_capability> acs{};
  express_description express{.type = port_type::root_port, .function_level_reset = false};
};

}  // namespace phasebit::pcie
