// SPDX-License-Identifier: BSL-1.0
// A command's SGL and the memory that it points into, both made up by a hostile driver: a descriptor,
// length and limits, then memory from bus address 0 on. A list that was rewritten describes the same
// bytes as the one that it was made from.
#include <phasebit/memory/translators.hpp>
#include <phasebit/nvme/sgl.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

using namespace phasebit;
namespace nvme = phasebit::nvme;
namespace sgl = phasebit::nvme::sgl;
using nvme::status_code;

namespace {

void check(bool good) {
  if (!good) std::abort();
}

class hostile_memory {
 public:
  using from = bus_space;
  using to = local_space;

  explicit hostile_memory(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  result<segment<local_space>> translate(bus_addr a, std::uint64_t n, phasebit::access) noexcept {
    if (a.value() >= bytes_.size()) return failure(errc::not_mapped, "beyond the input", a.value());
    const std::uint64_t remaining = bytes_.size() - a.value();
    const std::uint64_t got = n < remaining ? n : remaining;
    moved += got;
    return segment<local_space>{to_local(bytes_.data() + a.value()), got};
  }
  std::uint64_t moved = 0;

 private:
  std::span<const std::uint8_t> bytes_;
};

// Segments, adjacent ones merged, bit buckets as segments without an address.
struct piece_list {
  std::vector<segment<bus_space>> segments;
  std::uint64_t bytes = 0;

  void add(std::uint64_t begin, std::uint64_t count) {
    bytes += count;
    if (!segments.empty() && segments.back().begin.value() + segments.back().bytes == begin) {
      segments.back().bytes += static_cast<std::size_t>(count);
    } else {
      segments.push_back({bus_addr{begin}, static_cast<std::size_t>(count)});
    }
  }
};

template <class Memory>
status_code walk(Memory& memory, const nvme::sgl_descriptor& first, std::uint64_t bytes,
                 const sgl::limits& allowed, piece_list& out) {
  return sgl::walk(
      memory, first, bytes, allowed,
      [&](bus_addr at, std::uint64_t n) noexcept {
        check(n != 0 && n <= bytes);
        // A range that wraps cannot be reached; the visitor refuses it.
        if (!range_end(at, n)) return status_code::data_transfer_error;
        out.add(at.value(), n);
        return status_code::success;
      },
      [&](std::uint64_t n) noexcept {
        check(n != 0 && n <= bytes);
        out.bytes += n;
        return status_code::success;
      });
}

alignas(4096) std::array<std::byte, 1 << 16> shadow_bytes;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  struct {
    nvme::sgl_descriptor first;
    std::uint32_t bytes;
    std::uint8_t flags;
    std::uint8_t descriptors;
    std::uint8_t unused[2];
  } header;
  if (size < sizeof header) return 0;
  std::memcpy(&header, data, sizeof header);
  const std::uint64_t bytes = header.bytes & 0xff'ffff;
  const sgl::limits allowed{
      .wanted = (header.flags & 1U) != 0 ? phasebit::access::read : phasebit::access::write,
      .max_descriptors = 1U + header.descriptors,
      .longer_than_data = (header.flags & 2U) != 0,
      .dword_granularity = (header.flags & 4U) != 0};
  hostile_memory memory{{data + sizeof header, size - sizeof header}};

  piece_list found;
  const status_code status = walk(memory, header.first, bytes, allowed, found);
  check(found.bytes <= bytes && (status != status_code::success || found.bytes == bytes));
  check(memory.moved <= (allowed.max_descriptors + 33U) * 32U * 16U);

  const identity_translator<bus_space, bus_space> same{};
  nvme::submission_entry command{};
  command.set_sgl(header.first);
  const nvme::submission_entry before = command;
  const dma_region shadow{shadow_bytes, bus_addr{0x4000'0000}};
  const auto r = sgl::rewrite(memory, same, command, bytes, allowed, shadow);
  check(r.status == status);
  if (!r) {
    check(command == before);
    return 0;
  }
  const region_translator device{shadow};
  piece_list again;
  check(walk(device, command.sgl(), bytes, {.wanted = allowed.wanted, .max_descriptors = 8192},
             again) == status_code::success);
  check(again.bytes == found.bytes && again.segments.size() == found.segments.size());
  for (std::size_t i = 0; i != found.segments.size(); ++i) {
    check(again.segments[i].begin == found.segments[i].begin);
    check(again.segments[i].bytes == found.segments[i].bytes);
  }
  return 0;
}
