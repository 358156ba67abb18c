// SPDX-License-Identifier: BSL-1.0
// ISA-L for software engines: its checksums and its deflate. Needs libisal (Debian: libisal-dev) and
// -lisal; the header is empty where <isa-l.h> is not installed.
//
//   hosted::isal_compressor deflate;
//   accel::software_engine<hosted::isal_instructions, accel::plain_cipher<>, hosted::isal_compressor>
//       engine{accel::plain_cipher<>{keys}, deflate};
#pragma once

#if __has_include(<isa-l.h>)

#  include <phasebit/accel/checksum.hpp>
#  include <phasebit/accel/detail/stream.hpp>
#  include <phasebit/accel/operation.hpp>
#  include <phasebit/accel/software_engine.hpp>

#  include <array>
#  include <cstddef>
#  include <cstdint>
#  include <span>

#  include <isa-l.h>

namespace phasebit::hosted {

// An accel::ChecksumLibrary. Any number of threads.
struct isal_instructions {
  // ISA-L takes lengths of an int and does not write to what it reads.
  static constexpr std::size_t most = std::size_t{1} << 30;

  [[nodiscard]] static std::uint32_t crc32c(std::span<const std::byte> data,
                                            std::uint32_t seed) noexcept {
    std::uint32_t crc = ~seed;
    while (!data.empty()) {
      const auto part = data.first(data.size() < most ? data.size() : most);
      auto* bytes = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(part.data()));
      crc = ::crc32_iscsi(bytes, static_cast<int>(part.size()), crc);
      data = data.subspan(part.size());
    }
    return ~crc;
  }
  [[nodiscard]] static std::uint16_t crc16_t10dif(std::span<const std::byte> data,
                                                  std::uint16_t seed) noexcept {
    const auto* bytes = reinterpret_cast<const unsigned char*>(data.data());
    return ::crc16_t10dif(seed, bytes, data.size());
  }
};
static_assert(accel::ChecksumLibrary<isal_instructions>);

// Raw deflate (RFC 1951), level 1, as an accel::Compressor. Holds ISA-L's state, about 300 KiB: make it
// once. One thread.
class isal_compressor {
 public:
  // The value is the size of the output; output_too_large where it does not fit.
  accel::step_result compress(std::span<const domain_segment> from,
                              std::span<const domain_segment> to) noexcept {
    ::isal_deflate_init(&deflate_);
    deflate_.level = 1;
    deflate_.level_buf = work_.data();
    deflate_.level_buf_size = static_cast<std::uint32_t>(work_.size());
    accel::detail::stream in{from};
    accel::detail::stream out{to};
    deflate_.avail_in = deflate_.avail_out = 0;
    std::uint64_t written = 0;
    for (;;) {
      if (deflate_.avail_in == 0 && !in.ended()) next(in, deflate_.next_in, deflate_.avail_in);
      deflate_.end_of_stream = in.ended() ? 1 : 0;
      if (deflate_.avail_out == 0) {
        if (out.ended()) return {0, accel::step_status::output_too_large};
        next(out, deflate_.next_out, deflate_.avail_out);
      }
      const std::uint32_t before = deflate_.avail_out;
      if (::isal_deflate(&deflate_) != COMP_OK) return {0, accel::step_status::engine_error};
      written += before - deflate_.avail_out;
      if (deflate_.internal_state.state == ZSTATE_END) return {written, accel::step_status::good};
    }
  }
  // Errors: corrupt (no deflate stream, or one that does not end), output_too_large.
  accel::step_result decompress(std::span<const domain_segment> from,
                                std::span<const domain_segment> to) noexcept {
    ::isal_inflate_init(&inflate_);
    accel::detail::stream in{from};
    accel::detail::stream out{to};
    inflate_.avail_in = inflate_.avail_out = 0;
    std::uint64_t written = 0;
    std::uint8_t beyond = 0;
    for (;;) {
      if (inflate_.avail_in == 0 && !in.ended()) next(in, inflate_.next_in, inflate_.avail_in);
      bool full = false;
      if (inflate_.avail_out == 0) {
        full = out.ended();
        if (full) {  // the stream may still have its end to show, but no byte more
          inflate_.next_out = &beyond;
          inflate_.avail_out = 1;
        } else {
          next(out, inflate_.next_out, inflate_.avail_out);
        }
      }
      const std::uint32_t available = inflate_.avail_out;
      const std::uint32_t input = inflate_.avail_in;
      // Positive codes report that input or output ran out, which is handled below.
      if (::isal_inflate(&inflate_) < 0) return {0, accel::step_status::corrupt};
      const std::uint32_t made = available - inflate_.avail_out;
      if (full && made != 0) return {written + 1, accel::step_status::output_too_large};
      written += made;
      if (inflate_.block_state == ISAL_BLOCK_FINISH) return {written, accel::step_status::good};
      if (made == 0 && inflate_.avail_in == input && in.ended()) {
        return {0, accel::step_status::corrupt};
      }
      if (full) inflate_.avail_out = 0;
    }
  }

 private:
  static void next(accel::detail::stream& s, std::uint8_t*& at, std::uint32_t& bytes) noexcept {
    const auto part = s.take(std::size_t{1} << 30);
    at = reinterpret_cast<std::uint8_t*>(part.data());
    bytes = static_cast<std::uint32_t>(part.size());
  }

  ::isal_zstream deflate_{};
  ::inflate_state inflate_{};
  std::array<std::uint8_t, ISAL_DEF_LVL1_DEFAULT> work_{};
};
static_assert(accel::Compressor<isal_compressor>);

}  // namespace phasebit::hosted

#endif
