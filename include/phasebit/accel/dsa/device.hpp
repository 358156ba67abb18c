// SPDX-License-Identifier: BSL-1.0
// A simulated DSA work queue in software. It implements the specification as read by its authors;
// it has not been compared with hardware. CRC seed and result are those of accel::crc32c().
#pragma once

#include <phasebit/accel/checksum.hpp>
#include <phasebit/accel/dsa/descriptor.hpp>
#include <phasebit/accel/protection_information.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/memory/memory_domain.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel::dsa {

// Takes descriptors through submit(), a Portal, and executes them in step(). `Memory` translates
// and bounds every access to bus addresses. Descriptors and lists come from an untrusted driver:
// they are copied once and each field is checked. At most Depth descriptors wait; a batch has at
// most MaxBatch. One thread.
template <LocalTranslator Memory, std::size_t Depth = 32, std::size_t MaxBatch = 32>
class simulated_device {
  using space = typename Memory::from;

 public:
  explicit simulated_device(Memory& memory) noexcept : memory_(&memory) {}

  [[nodiscard]] bool submit(const descriptor& d) noexcept {
    if (count_ == Depth) return false;
    queue_[(head_ + count_++) % Depth] = d;
    return true;
  }
  // Carries out the oldest descriptor; false where none waits.
  bool step() noexcept {
    if (count_ == 0) return false;
    const descriptor d = queue_[head_];
    head_ = (head_ + 1) % Depth;
    --count_;
    carry_out(d, true);
    return true;
  }

 private:
  struct fault {
    std::uint64_t address = 0;
    bool writing = false;
  };

  // Returns whether the descriptor succeeded; a batch uses the result.
  bool carry_out(const descriptor& d, bool batches) noexcept {
    completion_record r{};
    const std::uint32_t flags = descriptor::flags.get(d.flags_and_opcode.get());
    const auto code = static_cast<opcode>(descriptor::code.get(d.flags_and_opcode.get()));
    completion_status status = completion_status::success;
    if ((flags & ~(flag_fence | flag_completion_address_valid | flag_request_completion)) != 0) {
      status = completion_status::invalid_flags;
    } else if (code == opcode::batch) {
      status = batches ? batch(d, r) : completion_status::unsupported_opcode;
    } else {
      status = operate(code, d, r);
    }
    r.status = static_cast<std::uint8_t>(static_cast<unsigned>(status) | r.status);
    if ((flags & flag_completion_address_valid) != 0 && d.completion_address.get() % 32 == 0) {
      // The status last: it is what the driver polls.
      const std::uint8_t last = r.status;
      r.status = 0;
      const address<space> at{d.completion_address.get()};
      if (dma_write(*memory_, at, r)) {
        r.status = last;
        static_cast<void>(dma_write(*memory_, at, std::span{wire_bytes(r)}.first(1)));
      }
    }
    return status == completion_status::success;
  }

  completion_status batch(const descriptor& d, completion_record& r) noexcept {
    const std::uint32_t count = d.transfer_size.get();
    if (count < 2 || count > MaxBatch) return completion_status::invalid_descriptor_count;
    if (d.source.get() % 64 != 0) return completion_status::list_alignment;
    bool good = true;
    for (std::uint32_t k = 0; k != count; ++k) {
      const std::uint64_t at = d.source.get() + std::uint64_t{k} * sizeof(descriptor);
      const auto one = dma_read<descriptor>(*memory_, address<space>{at});
      if (!one) {
        r.fault_address = at;
        r.bytes_completed = k;
        return completion_status::page_fault;
      }
      good = carry_out(*one, false) && good;
      r.bytes_completed = k + 1;
    }
    return good ? completion_status::success : completion_status::batch_failed;
  }

  // Maps a range as a list of contiguous local parts; an empty result where it faults.
  class range {
   public:
    static constexpr std::size_t most = 64;
    bool map(Memory& memory, std::uint64_t at, std::uint64_t bytes, access wanted,
             completion_record& r) noexcept {
      bool fits = true;
      const auto done = for_each_segment(
          memory, address<space>{at}, bytes, wanted, [&](segment<local_space> s) noexcept {
            if (count_ == most) fits = false;
            if (fits) list_[count_++] = {s.begin.value(), s.bytes, local_domain};
          });
      if (done && fits) return true;
      r.fault_address = done ? at : done.error().value;
      if (writes(wanted)) r.status = 0x80;
      return false;
    }
    [[nodiscard]] std::span<const domain_segment> list() const noexcept {
      return std::span{list_}.first(count_);
    }

   private:
    std::array<domain_segment, most> list_{};
    std::size_t count_ = 0;
  };

  completion_status operate(opcode code, const descriptor& d, completion_record& r) noexcept {
    const std::uint32_t bytes = d.transfer_size.get();
    if (code == opcode::no_operation || code == opcode::drain) return completion_status::success;
    if (bytes == 0) return completion_status::invalid_transfer_size;
    range source;
    range destination;
    if (code != opcode::fill && !source.map(*memory_, d.source.get(), bytes, access::read, r)) {
      return completion_status::page_fault;
    }
    protection p{};
    p.block_bytes = block_size(get<std::uint8_t>(d, dif_flags_offset));
    p.reference_tag = get<std::uint32_t>(d, dif_check_reference_offset);
    p.application_mask = static_cast<std::uint16_t>(~get<std::uint16_t>(d, dif_check_mask_offset));
    p.application_tag = get<std::uint16_t>(d, dif_check_tag_offset);
    protection renewed = p;
    renewed.reference_tag = get<std::uint32_t>(d, dif_insert_reference_offset);
    renewed.application_tag = get<std::uint16_t>(d, dif_insert_tag_offset);
    std::uint64_t out = bytes;
    const bool insert = code == opcode::dif_insert;
    const bool dif = insert || code == opcode::dif_check || code == opcode::dif_strip ||
                     code == opcode::dif_update;
    const std::uint32_t unit = insert ? p.block_bytes : p.protected_bytes();
    if (dif && bytes % unit != 0) return completion_status::invalid_transfer_size;
    const std::uint64_t blocks = dif ? bytes / unit : 0;
    if (insert) out = blocks * p.protected_bytes();
    if (code == opcode::dif_strip) out = blocks * p.block_bytes;
    const bool writes_destination = code != opcode::crc_generation && code != opcode::dif_check;
    const bool compares = code == opcode::compare;
    if (writes_destination && !destination.map(*memory_, d.destination.get(), out,
                                               compares ? access::read : access::write, r)) {
      return completion_status::page_fault;
    }
    const std::uint64_t a = d.source.get();
    const std::uint64_t b = d.destination.get();
    // Differences, which do not wrap where a buffer ends at 2^64.
    const bool overlapping = a < b ? b - a < bytes : a - b < out;
    if (overlapping && (insert || code == opcode::dif_strip || code == opcode::copy_with_crc)) {
      return completion_status::overlapping_buffers;
    }
    detail::stream from{source.list()};
    detail::stream to{destination.list()};
    r.bytes_completed = bytes;
    switch (code) {
      case opcode::memory_move:
        move(d, source, destination);
        return completion_status::success;
      case opcode::fill: {
        std::uint64_t pattern = d.source.get();
        for (std::uint64_t left = bytes; left != 0;) {
          const auto part = to.take(int_cast<std::size_t>(left));
          for (std::byte& x : part) {
            x = static_cast<std::byte>(pattern);
            pattern = pattern >> 8 | pattern << 56;
          }
          left -= part.size();
        }
        return completion_status::success;
      }
      case opcode::compare: {
        std::uint32_t at = 0;
        detail::pairwise(from, to, bytes,
                         [&](std::span<std::byte> x, std::span<std::byte> y) noexcept {
                           for (std::size_t k = 0; k != x.size() && r.result == 0; ++k, ++at) {
                             if (x[k] != y[k]) r.result = 1;
                           }
                         });
        if (r.result != 0) r.bytes_completed = at - 1;
        return completion_status::success;
      }
      case opcode::crc_generation:
      case opcode::copy_with_crc: {
        std::uint32_t crc = get<std::uint32_t>(d, crc_seed_offset);
        for (std::uint64_t left = bytes; left != 0;) {
          const auto part = from.take(int_cast<std::size_t>(left));
          crc = crc32c(part, crc);
          if (code == opcode::copy_with_crc) to.write(part.data(), part.size());
          left -= part.size();
        }
        r.crc = crc;
        return completion_status::success;
      }
      case opcode::dif_insert:
        insert_protection(to, from, renewed, blocks);
        return completion_status::success;
      case opcode::dif_check:
        return checked(
            verify_protection<protected_output::none>(from, from, to, p, renewed, blocks), unit, r);
      case opcode::dif_strip:
        return checked(
            verify_protection<protected_output::strip>(from, from, to, p, renewed, blocks), unit,
            r);
      case opcode::dif_update:
        return checked(
            verify_protection<protected_output::update>(from, from, to, p, renewed, blocks), unit,
            r);
      default:
        r.bytes_completed = 0;
        return completion_status::unsupported_opcode;
    }
  }
  static completion_status checked(const step_result& s, std::uint32_t unit,
                                   completion_record& r) noexcept {
    if (s.good()) return completion_status::success;
    r.result = s.status == step_status::guard_error             ? 1
               : s.status == step_status::application_tag_error ? 2
                                                                : 4;
    r.bytes_completed = static_cast<std::uint32_t>(s.value * unit);
    return completion_status::dif_error;
  }
  // Overlapping ranges are moved from the end where the destination lies above.
  static void move(const descriptor& d, const range& source, const range& destination) noexcept {
    const auto from = source.list();
    const auto to = destination.list();
    if (from.size() == 1 && to.size() == 1) {
      __builtin_memmove(pointer_of(local_addr{to[0].address}),
                        pointer_of(local_addr{from[0].address}),
                        static_cast<std::size_t>(from[0].bytes));
      return;
    }
    const std::uint64_t bytes = d.transfer_size.get();
    const bool down = d.destination.get() <= d.source.get();
    for (std::uint64_t k = 0; k != bytes; ++k) {
      const std::uint64_t at = down ? k : bytes - 1 - k;
      *byte_at(to, at) = *byte_at(from, at);
    }
  }
  [[nodiscard]] static std::byte* byte_at(std::span<const domain_segment> list,
                                          std::uint64_t offset) noexcept {
    std::size_t k = 0;
    while (offset >= list[k].bytes) offset -= list[k++].bytes;
    return pointer_of(local_addr{list[k].address + offset});
  }

  Memory* memory_;
  std::array<descriptor, Depth> queue_{};
  std::size_t head_ = 0;
  std::size_t count_ = 0;
};

}  // namespace phasebit::accel::dsa
