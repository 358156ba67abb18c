// SPDX-License-Identifier: BSL-1.0
// A command's PRPs and the memory that they point into, both written by a hostile driver: 24 bytes
// of PRP1, PRP2, length and page size, then memory starting at bus address 0. Walking the command
// and walking the rewritten command find the same bytes.
#include <phasebit/memory/translators.hpp>
#include <phasebit/nvme/prp.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

using namespace phasebit;
namespace prp = phasebit::nvme::prp;
using phasebit::nvme::status_code;

namespace {

void check(bool good) {
  if (!good) std::abort();
}

// The input's memory, copied, so that rewriting in place has something to write to.
class hostile_memory {
 public:
  using from = bus_space;
  using to = local_space;

  explicit hostile_memory(std::span<const std::uint8_t> bytes) : bytes_(bytes.size() & ~7ULL) {
    if (!bytes_.empty()) std::memcpy(bytes_.data(), bytes.data(), bytes_.size());
  }
  result<segment<local_space>> translate(bus_addr a, std::uint64_t n, phasebit::access) noexcept {
    if (a.value() >= bytes_.size()) return failure(errc::not_mapped, "beyond the input", a.value());
    const std::uint64_t remaining = bytes_.size() - a.value();
    const std::uint64_t got = n < remaining ? n : remaining;
    moved += got;
    return segment<local_space>{to_local(bytes_.data() + a.value()), got};
  }
  std::uint64_t moved = 0;

 private:
  std::vector<std::uint8_t> bytes_;
};

struct piece_list {
  std::vector<segment<bus_space>> segments;
  std::uint64_t bytes = 0;

  // Pages, one by one: how segments are merged is not compared.
  void add(std::uint64_t begin, std::uint64_t count, unsigned shift) {
    bytes += count;
    const std::uint64_t page = std::uint64_t{1} << shift;
    while (count != 0) {
      const std::uint64_t remaining = page - (begin & (page - 1));
      const std::uint64_t now = count < remaining ? count : remaining;
      segments.push_back({bus_addr{begin}, static_cast<std::size_t>(now)});
      begin += now;
      count -= now;
    }
  }
};

template <class Memory>
status_code walk(Memory& memory, prp::pointers p, std::uint64_t bytes, unsigned shift,
                 piece_list& out) {
  return prp::walk(memory, p, bytes, shift, [&](bus_addr at, std::uint64_t n) noexcept {
    check(n != 0 && n <= bytes);
    // A range that wraps cannot be reached; the visitor refuses it.
    if (!range_end(at, n)) return status_code::data_transfer_error;
    out.add(at.value(), n, shift);
    return status_code::success;
  });
}

constexpr std::uint64_t shadow_at = 0x4000'0000;
alignas(4096) std::array<std::byte, 1 << 16> shadow_bytes;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  struct {
    std::uint64_t prp1;
    std::uint64_t prp2;
    std::uint32_t bytes;
    std::uint32_t shift;
  } header;
  if (size < sizeof header) return 0;
  std::memcpy(&header, data, sizeof header);
  const unsigned shift = 12 + header.shift % 3;
  const std::uint64_t bytes = header.bytes & 0xff'ffff;
  const prp::pointers command{header.prp1, header.prp2};
  hostile_memory memory{{data + sizeof header, size - sizeof header}};

  piece_list found;
  const status_code status = walk(memory, command, bytes, shift, found);
  check(status == status_code::success || status == status_code::prp_offset_invalid ||
        status == status_code::data_transfer_error);
  const std::uint64_t entries =
      bytes == 0 ? 0 : prp::entries_after_first(command.prp1, bytes, shift);
  check(memory.moved <= (entries + entries / 511 + 2) * 8);
  check(found.bytes <= bytes && (status != status_code::success || found.bytes == bytes));
  if (bytes == 0) return 0;

  const identity_translator<bus_space, bus_space> same{};
  const dma_region shadow{shadow_bytes, bus_addr{shadow_at}};
  prp::pointers copied = command;
  const prp::build_result v =
      prp::rewrite(memory, same, phasebit::access::write, copied, bytes, shift, shadow);
  // With several faults, either may be reported first.
  check(static_cast<bool>(v) == (status == status_code::success));
  if (!v) {
    check(copied == command);
    return 0;
  }
  const region_translator device{shadow};
  piece_list again;
  check(walk(device, copied, bytes, shift, again) == status_code::success);
  check(again.segments.size() == found.segments.size());
  for (std::size_t i = 0; i != found.segments.size(); ++i) {
    check(again.segments[i].begin == found.segments[i].begin);
    check(again.segments[i].bytes == found.segments[i].bytes);
  }
  // By the identity, in place, nothing changes; a list that leads into itself included.
  prp::pointers in_place = command;
  check(static_cast<bool>(
      prp::rewrite_in_place(memory, same, phasebit::access::write, in_place, bytes, shift)));
  check(in_place.prp1 == command.prp1 && in_place.prp2 == (entries == 0 ? 0 : command.prp2));
  return 0;
}
