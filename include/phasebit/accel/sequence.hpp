// SPDX-License-Identifier: BSL-1.0
// A sequence: what shall happen to data, appended step by step and not executed. It lies in place, in
// the capacity that its user gives it, and allocates nothing.
#pragma once

#include <phasebit/accel/operation.hpp>
#include <phasebit/accel/step.hpp>
#include <phasebit/core/align.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace phasebit::accel {

// Steps: at most 64; an append adds one step, copy_crc32c two. Segments: of all steps together. The
// optimizer needs free segments to cut others; without them it skips the rule.
//
// Appending checks everything that can be checked without running: sizes, data units, overlaps,
// scratch bounds. An error's index is the number of the step; the sequence is then unchanged. A
// step's source and destination are disjoint, or the same segments for operations that work in
// place; a partial overlap is refused.
//
// After a run that failed or was aborted, the bytes of every destination in the sequence are
// undefined; no other byte was written. A compare is a gate: later steps write only if the compare
// has passed. Not thread safe.
template <std::size_t Steps = 8, std::size_t Segments = 4 * Steps>
class sequence {
  static_assert(Steps >= 1 && Steps <= 64, "a sequence has 1 to 64 steps");
  static_assert(Segments >= 2 && Segments < 0xffff);

 public:
  static constexpr std::size_t step_capacity = Steps;
  static constexpr std::size_t segment_capacity = Segments;

  constexpr sequence() noexcept {
    if (std::is_constant_evaluated()) {
      steps_ = {};
      segments_ = {};
      scratch_ = {};
      results_ = {};
    }
  }

  // A temporary buffer: an address range without memory. Errors: invalid_argument (no bytes, or an
  // alignment that is no power of two or above 4096), out_of_range (2^40 bytes or more), exhausted.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE constexpr result<domain_segment> scratch(
      std::uint64_t bytes, std::uint32_t alignment = 64) noexcept {
    const bool good = (bytes != 0) & (bytes >> scratch_shift == 0) & is_power_of_two(alignment) &
                      (alignment <= 4096) & (scratch_count_ != Steps);
    if (!good) [[unlikely]]
      return scratch_fault(bytes, alignment);
    scratch_[scratch_count_] = {bytes, 0, alignment, 0, 0, 0, 0};
    ++scratch_count_;
    return domain_segment{std::uint64_t{scratch_count_} << scratch_shift, bytes, scratch_domain};
  }

  PHASEBIT_ALWAYS_INLINE constexpr result<step_id> copy(segment_list to,
                                                        segment_list from) noexcept {
    return append_moving(operation::copy, to, from, {});
  }
  constexpr result<step_id> fill(segment_list to, std::uint64_t pattern) noexcept {
    return append(operation::fill, to, {}, to_parameters(pattern));
  }
  constexpr result<step_id> zero(segment_list to) noexcept { return fill(to, 0); }
  // `to` = sources[0] ^ sources[1] ^ ...; each source is as long as `to`.
  constexpr result<step_id> exclusive_or(segment_list to,
                                         std::span<const segment_list> sources) noexcept {
    if (sources.empty()) return refuse(errc::invalid_argument, "exclusive_or without a source");
    const operand before{0, segment_count_, 0};
    for (const segment_list& one : sources) {
      if (!add_segments(one)) return rolled_back(before, fault_of(one));
    }
    std::uint64_t size = 0;
    for (const auto& s : to) size += s.bytes;
    for (const segment_list& one : sources) {
      std::uint64_t bytes = 0;
      for (const auto& s : one) bytes += s.bytes;
      if (bytes != size) {
        return rolled_back(before, failure(errc::invalid_argument,
                                           "a source of exclusive_or differs from the destination "
                                           "in size",
                                           bytes));
      }
    }
    parameters with{};
    with.value2 = sources.size();
    return finish(operation::exclusive_or, to, before, with);
  }
  constexpr result<step_id> compare(segment_list a, segment_list b) noexcept {
    return append_two(operation::compare, a, b, {});
  }
  // seed 0 gives the usual CRC-32C; the result of an earlier part as seed continues it.
  constexpr result<step_id> crc32c(segment_list from, std::uint32_t seed = 0) noexcept {
    return append(operation::crc32c, {}, from, to_parameters(std::uint64_t{seed}));
  }
  constexpr result<step_id> crc16_t10dif(segment_list from, std::uint16_t seed = 0) noexcept {
    return append(operation::crc16_t10dif, {}, from, to_parameters(std::uint64_t{seed}));
  }
  // A copy whose source's CRC-32C is the result. Takes two steps of the capacity.
  constexpr result<step_id> copy_crc32c(segment_list to, segment_list from,
                                        std::uint32_t seed = 0) noexcept {
    if (step_count_ + 2U > Steps) return refuse_length();
    const auto summed = crc32c(from, seed);
    if (!summed) return summed;
    if (const auto copied = copy(to, from); !copied) {
      segment_count_ = at(--step_count_ + 0U).source.first;
      --id_count_;
      return copied.error();
    }
    at(step_count_ - 1U).id = summed->value;
    --id_count_;
    return summed;
  }

  PHASEBIT_ALWAYS_INLINE constexpr result<step_id> dif_insert(segment_list to, segment_list from,
                                                              const protection& p) noexcept {
    if (const auto ok = check(p); !ok) return ok.error();
    return append_blocks(operation::dif_insert, to, from, p.protected_bytes(), p.block_bytes,
                         to_parameters(p));
  }
  constexpr result<step_id> dif_verify(segment_list from, const protection& p) noexcept {
    if (const auto ok = check(p); !ok) return ok.error();
    return append_blocks(operation::dif_verify, {}, from, 0, p.protected_bytes(), to_parameters(p));
  }
  constexpr result<step_id> dif_strip(segment_list to, segment_list from,
                                      const protection& p) noexcept {
    if (const auto ok = check(p); !ok) return ok.error();
    return append_blocks(operation::dif_strip, to, from, p.block_bytes, p.protected_bytes(),
                         to_parameters(p));
  }
  // Checks by `p` and writes the tags of `p` with these two replaced; the guard stays.
  constexpr result<step_id> dif_update(segment_list to, segment_list from, const protection& p,
                                       std::uint64_t new_reference_tag,
                                       std::uint16_t new_application_tag) noexcept {
    if (const auto ok = check(p); !ok) return ok.error();
    parameters with = to_parameters(p);
    with.value2 = new_reference_tag;
    with.key2 = new_application_tag;
    return append_blocks(operation::dif_update, to, from, p.protected_bytes(), p.protected_bytes(),
                         with);
  }
  constexpr result<step_id> dix_generate(segment_list metadata, segment_list data,
                                         const protection& p) noexcept {
    if (const auto ok = check(p); !ok) return ok.error();
    return append_blocks(operation::dix_generate, metadata, data, p.metadata_bytes(), p.block_bytes,
                         to_parameters(p));
  }
  constexpr result<step_id> dix_verify(segment_list data, segment_list metadata,
                                       const protection& p) noexcept {
    if (const auto ok = check(p); !ok) return ok.error();
    const std::uint64_t bytes = total(data);
    if (detail::quotient(bytes, p.block_bytes) * p.block_bytes != bytes) {
      return refuse(errc::misaligned, "the data is not a whole number of blocks", bytes);
    }
    const std::uint64_t blocks = detail::quotient(bytes, p.block_bytes);
    if (total(metadata) != blocks * p.metadata_bytes()) {
      return refuse(errc::invalid_argument,
                    "the metadata is not one protection information per block", total(metadata));
    }
    const operand before{0, segment_count_, 0};
    if (!add_segments(data)) return rolled_back(before, fault_of(data));
    if (!add_segments(metadata)) {
      return rolled_back(before, fault_of(metadata));
    }
    return finish(operation::dix_verify, {}, before, to_parameters(p));
  }
  PHASEBIT_ALWAYS_INLINE constexpr result<step_id> encrypt(segment_list to, segment_list from,
                                                           const cipher& c) noexcept {
    return append_cipher(operation::encrypt, to, from, c);
  }
  PHASEBIT_ALWAYS_INLINE constexpr result<step_id> decrypt(segment_list to, segment_list from,
                                                           const cipher& c) noexcept {
    return append_cipher(operation::decrypt, to, from, c);
  }
  constexpr result<step_id> compress(segment_list to, segment_list from) noexcept {
    return append(operation::compress, to, from, {});
  }
  constexpr result<step_id> decompress(segment_list to, segment_list from) noexcept {
    return append(operation::decompress, to, from, {});
  }

  // Turns the order of the steps round: on a read the layer nearest to the user appends its step
  // first, and it runs last. Ids stay with their steps.
  constexpr void reverse() noexcept {
    for (std::size_t a = 0, b = step_count_; a + 1 < b; ++a) {
      --b;
      const step held = at(a);
      at(a) = at(b);
      at(b) = held;
    }
    for (std::size_t k = 0; k != scratch_count_; ++k) {
      scratch_[k].writer = static_cast<std::uint8_t>(step_count_ - 1 - scratch_[k].writer);
      scratch_[k].reader = static_cast<std::uint8_t>(step_count_ - 1 - scratch_[k].reader);
    }
  }

  // Steps that are appended from now on begin an empty sequence.
  constexpr void clear() noexcept {
    step_count_ = id_count_ = scratch_count_ = step_begin_ = 0;
    segment_count_ = 0;
    tracked_ = true;
  }

  // Whether each scratch byte is written before it is read. Error: invalid_argument with the step.
  [[nodiscard]] constexpr result<> check_scratch() const noexcept {
    for (std::size_t i = 0; i != step_count_; ++i) {
      for (const domain_segment& s : sources(at(i))) {
        if (s.domain == scratch_domain && !written_before(i, s)) {
          return failure(errc::invalid_argument,
                         "the step reads scratch memory that no earlier step writes")
              .at(at(i).id);
        }
      }
    }
    return {};
  }

  [[nodiscard]] constexpr std::size_t size() const noexcept { return step_count_; }
  [[nodiscard]] constexpr std::size_t id_count() const noexcept { return id_count_; }
  [[nodiscard]] constexpr bool empty() const noexcept { return step_count_ == 0; }
  [[nodiscard]] constexpr const step& operator[](std::size_t i) const noexcept { return at(i); }
  [[nodiscard]] constexpr step& operator[](std::size_t i) noexcept { return at(i); }
  [[nodiscard]] constexpr std::span<const domain_segment> list(const operand& o) const noexcept {
    return {segments_.data() + o.first, o.count};
  }
  [[nodiscard]] constexpr std::span<const domain_segment> sources(const step& s) const noexcept {
    return list(s.source);
  }
  [[nodiscard]] constexpr std::span<const domain_segment> destinations(
      const step& s) const noexcept {
    return list(s.destination);
  }
  [[nodiscard]] constexpr const domain_segment& segment(std::size_t place) const noexcept {
    return segments_[place];
  }
  // The result of step `id`, once the sequence has run.
  [[nodiscard]] constexpr const step_result& result_of(step_id id) const noexcept {
    return results_[id.value];
  }
  [[nodiscard]] constexpr step_result& result_slot(std::uint8_t id) noexcept {
    return results_[id];
  }

  using scratch_info = accel::scratch_info;
  [[nodiscard]] constexpr std::size_t scratch_count() const noexcept { return scratch_count_; }
  [[nodiscard]] constexpr scratch_info& scratch_buffer(std::size_t i) noexcept {
    return scratch_[i];
  }
  [[nodiscard]] constexpr const scratch_info& scratch_buffer(std::size_t i) const noexcept {
    return scratch_[i];
  }

  // For the optimizer: a step's place, and segments at the end of the table.
  constexpr void erase(std::size_t i) noexcept {
    tracked_ = false;
    for (std::size_t k = i + 1; k < step_count_; ++k) at(k - 1) = at(k);
    --step_count_;
  }
  // Erases the steps whose bit is set. Steps at either end go without a step being moved.
  constexpr void erase_all(std::uint64_t which) noexcept {
    tracked_ = false;
    while (step_count_ != 0 && (which >> (step_count_ - 1U) & 1U) != 0) --step_count_;
    while (step_count_ != 0 && (which & 1U) != 0) {
      which >>= 1;
      ++step_begin_;
      --step_count_;
    }
    if (step_count_ == 0) {
      step_begin_ = 0;
      return;
    }
    if ((which & ((std::uint64_t{2} << (step_count_ - 1U)) - 1)) == 0) return;
    std::size_t kept = 0;
    for (std::size_t k = 0; k != step_count_; ++k) {
      if ((which >> k & 1U) != 0) continue;
      if (kept != k) at(kept) = at(k);
      ++kept;
    }
    step_count_ = static_cast<std::uint8_t>(kept);
  }
  // Returns whether scratch_info still describes the writers and readers of each buffer.
  [[nodiscard]] constexpr bool tracked() const noexcept { return tracked_; }
  constexpr bool insert(std::size_t place, const step& s) noexcept {
    if (step_count_ == Steps) return false;
    tracked_ = false;
    settle_begin();
    for (std::size_t k = step_count_; k != place; --k) steps_[k] = steps_[k - 1];
    steps_[place] = s;
    ++step_count_;
    return true;
  }
  // A further result, where id_count() is below the capacity.
  constexpr std::uint8_t new_id() noexcept {
    results_[id_count_] = {};
    return id_count_++;
  }
  [[nodiscard]] constexpr std::size_t free_segments() const noexcept {
    return Segments - segment_count_;
  }
  constexpr void push_segment(const domain_segment& s) noexcept { segments_[segment_count_++] = s; }
  [[nodiscard]] constexpr std::uint16_t segment_count() const noexcept { return segment_count_; }
  constexpr void truncate_segments(std::uint16_t count) noexcept { segment_count_ = count; }
  [[nodiscard]] constexpr domain_segment& segment_at(std::size_t i) noexcept {
    return segments_[i];
  }

 private:
  [[nodiscard]] constexpr const step& at(std::size_t i) const noexcept {
    return steps_[step_begin_ + i];
  }
  [[nodiscard]] constexpr step& at(std::size_t i) noexcept { return steps_[step_begin_ + i]; }
  // Moves the steps to the front of their table.
  constexpr void settle_begin() noexcept {
    if (step_begin_ == 0) return;
    for (std::size_t k = 0; k != step_count_; ++k) steps_[k] = steps_[step_begin_ + k];
    step_begin_ = 0;
  }

  [[nodiscard]] constexpr error refuse(errc code, const char* what) const noexcept {
    return failure(code, what).at(id_count_);
  }
  [[nodiscard]] constexpr error refuse(errc code, const char* what,
                                       std::uint64_t value) const noexcept {
    return failure(code, what, value).at(id_count_);
  }
  [[nodiscard]] constexpr error refuse_length() const noexcept {
    return refuse(errc::exhausted, "the sequence is longer than its capacity", Steps);
  }
  constexpr error rolled_back(const operand& before, const error& why) noexcept {
    segment_count_ = before.first;
    return why;
  }
  [[nodiscard]] static constexpr std::uint64_t total(segment_list list) noexcept {
    std::uint64_t bytes = 0;
    for (const auto& s : list) bytes += s.bytes;
    return bytes;
  }

  [[nodiscard]] constexpr error scratch_fault(std::uint64_t bytes,
                                              std::uint32_t alignment) const noexcept {
    if (bytes == 0) return failure(errc::invalid_argument, "a scratch buffer of no bytes");
    if (!is_power_of_two(alignment) || alignment > 4096) {
      return failure(errc::invalid_argument, "a scratch alignment is a power of two up to 4096",
                     alignment);
    }
    if (bytes >> scratch_shift != 0) {
      return failure(errc::out_of_range, "a scratch buffer of 2^40 bytes or more", bytes);
    }
    return failure(errc::exhausted, "the sequence cannot hold another scratch buffer", Steps);
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE constexpr bool good(const domain_segment& s) const noexcept {
    const bool plain = (s.bytes != 0) & (s.end() >= s.address) & (s.domain.value < max_domains);
    if (s.domain != scratch_domain) [[likely]]
      return plain;
    const std::uint64_t number = s.address >> scratch_shift;
    if (!plain || number == 0 || number > scratch_count_) return false;
    const std::uint64_t size = scratch_[static_cast<std::size_t>(number) - 1].bytes;
    const std::uint64_t offset = scratch_offset_of(s.address);
    return offset <= size && s.bytes <= size - offset;
  }
  // Copies a list into the table if every segment is valid and there is space; otherwise fault_of()
  // returns the reason.
  PHASEBIT_ALWAYS_INLINE constexpr bool add_segments(segment_list list) noexcept {
    if (list.size() > Segments - segment_count_) [[unlikely]]
      return false;
    for (const domain_segment& s : list) {
      if (!good(s)) [[unlikely]]
        return false;
      segments_[segment_count_++] = s;
    }
    return true;
  }
  [[nodiscard]] constexpr error fault_of(segment_list list) const noexcept {
    for (const domain_segment& s : list) {
      if (good(s)) continue;
      if (s.bytes == 0) return refuse(errc::invalid_argument, "a segment of no bytes", s.address);
      if (s.end() < s.address) {
        return refuse(errc::overflow, "a segment wraps around its memory domain", s.address);
      }
      if (s.domain.value >= max_domains) {
        return refuse(errc::not_found, "no such memory domain", s.domain.value);
      }
      return refuse(errc::out_of_range, "a segment is not within one scratch buffer", s.address);
    }
    return refuse(errc::exhausted, "the sequence's segments are more than its capacity", Segments);
  }

  constexpr result<step_id> append(operation op, segment_list to, segment_list from,
                                   const parameters& with) noexcept {
    const operand before{0, segment_count_, 0};
    if (!add_segments(from)) [[unlikely]] {
      return rolled_back(before, fault_of(from));
    }
    return finish(op, to, before, with);
  }
  // One segment to one other segment, which is most steps: written in place. False, and nothing done,
  // where anything is not as it should be; the long way reports what.
  PHASEBIT_ALWAYS_INLINE constexpr bool append_single(operation op, segment_list to_list,
                                                      segment_list from_list,
                                                      const parameters& with) noexcept {
    if (to_list.size() != 1 || from_list.size() != 1) [[unlikely]]
      return false;
    const domain_segment& to = to_list[0];
    const domain_segment& from = from_list[0];
    if (step_begin_ + step_count_ == Steps || Segments - segment_count_ < 2) [[unlikely]]
      return false;
    if (!good(to) || !good(from) || detail::overlaps(to, from)) [[unlikely]]
      return false;
    const std::uint16_t first = segment_count_;
    segments_[first] = {from.address, from.bytes, from.domain};
    segments_[first + 1U] = {to.address, to.bytes, to.domain};
    segment_count_ = static_cast<std::uint16_t>(first + 2);
    step& s = at(step_count_);
    s.op = op;
    s.then = operation::none;
    s.id = id_count_;
    s.then_id = 0;
    s.gate = false;
    s.seed_from = step::no_seed;
    s.part = false;
    s.with = with;
    s.source = {from.bytes, first, 1};
    s.destination = {to.bytes, static_cast<std::uint16_t>(first + 1), 1};
    track_read(from);
    track_write(to, true);
    results_[id_count_] = {};
    ++step_count_;
    ++id_count_;
    return true;
  }
  PHASEBIT_ALWAYS_INLINE constexpr result<step_id> append_moving(operation op, segment_list to,
                                                                 segment_list from,
                                                                 const parameters& with) noexcept {
    if (to.size() == 1 && from.size() == 1 && to[0].bytes == from[0].bytes) [[likely]] {
      if (append_single(op, to, from, with)) [[likely]]
        return step_id{static_cast<std::uint8_t>(id_count_ - 1)};
    }
    return append_many(op, to, from, with);
  }
  constexpr result<step_id> append_many(operation op, segment_list to, segment_list from,
                                        const parameters& with) noexcept {
    if (total(to) != total(from)) [[unlikely]] {
      return refuse(errc::invalid_argument, "source and destination differ in size", total(from));
    }
    return append(op, to, from, with);
  }
  constexpr result<step_id> append_two(operation op, segment_list a, segment_list b,
                                       const parameters& with) noexcept {
    if (total(a) != total(b)) {
      return refuse(errc::invalid_argument, "the two sides of a compare differ in size", total(b));
    }
    const operand before{0, segment_count_, 0};
    if (!add_segments(a)) return rolled_back(before, fault_of(a));
    if (!add_segments(b)) return rolled_back(before, fault_of(b));
    return finish(op, {}, before, with);
  }
  // `to` in blocks of `to_unit` bytes, `from` in as many blocks of `from_unit` bytes.
  PHASEBIT_ALWAYS_INLINE constexpr result<step_id> append_blocks(operation op, segment_list to,
                                                                 segment_list from,
                                                                 std::uint32_t to_unit,
                                                                 std::uint32_t from_unit,
                                                                 const parameters& with) noexcept {
    if (to.size() == 1 && from.size() == 1) [[likely]] {
      const std::uint64_t blocks = detail::quotient(from[0].bytes, from_unit);
      if (blocks * from_unit == from[0].bytes && to[0].bytes == blocks * to_unit) [[likely]] {
        if (append_single(op, to, from, with)) [[likely]]
          return step_id{static_cast<std::uint8_t>(id_count_ - 1)};
      }
    }
    return append_many_blocks(op, to, from, to_unit, from_unit, with);
  }
  constexpr result<step_id> append_many_blocks(operation op, segment_list to, segment_list from,
                                               std::uint32_t to_unit, std::uint32_t from_unit,
                                               const parameters& with) noexcept {
    const std::uint64_t bytes = total(from);
    const std::uint64_t blocks = detail::quotient(bytes, from_unit);
    if (blocks * from_unit != bytes) {
      return refuse(errc::misaligned, "the source is not a whole number of blocks", bytes);
    }
    if (total(to) != blocks * to_unit) {
      return refuse(errc::invalid_argument,
                    "the destination is not as long as the source's blocks need", total(to));
    }
    return append(op, to, from, with);
  }
  PHASEBIT_ALWAYS_INLINE constexpr result<step_id> append_cipher(operation op, segment_list to,
                                                                 segment_list from,
                                                                 const cipher& c) noexcept {
    if (to.size() == 1 && from.size() == 1 && to[0].bytes == from[0].bytes && c.unit_bytes >= 16)
        [[likely]] {
      const std::uint64_t bytes = from[0].bytes;
      if (detail::quotient(bytes, c.unit_bytes) * c.unit_bytes == bytes &&
          append_single(op, to, from, to_parameters(c))) [[likely]] {
        return step_id{static_cast<std::uint8_t>(id_count_ - 1)};
      }
    }
    return append_many_units(op, to, from, c);
  }
  constexpr result<step_id> append_many_units(operation op, segment_list to, segment_list from,
                                              const cipher& c) noexcept {
    if (c.unit_bytes < 16) [[unlikely]] {
      return refuse(errc::invalid_argument, "a data unit of AES-XTS has at least 16 bytes",
                    c.unit_bytes);
    }
    const std::uint64_t bytes = total(from);
    if (detail::quotient(bytes, c.unit_bytes) * c.unit_bytes != bytes) [[unlikely]] {
      return refuse(errc::misaligned, "the source is not a whole number of data units", bytes);
    }
    return append_many(op, to, from, to_parameters(c));
  }
  [[nodiscard]] constexpr result<> check(const protection& p) const noexcept {
    if (const auto ok = check_protection(p); !ok) return ok.error().at(id_count_);
    return {};
  }

  // The source lies in the table from `before` on. Adds the destination and the step.
  constexpr result<step_id> finish(operation op, segment_list to, operand before,
                                   const parameters& with) noexcept {
    if (step_count_ == Steps) [[unlikely]]
      return rolled_back(before, refuse_length());
    settle_begin();
    const std::uint16_t middle = segment_count_;
    if (!add_segments(to)) [[unlikely]] {
      return rolled_back(before, fault_of(to));
    }
    step& s = at(step_count_);
    s.op = op;
    s.then = operation::none;
    s.id = id_count_;
    s.then_id = 0;
    s.gate = op == operation::compare;
    s.seed_from = step::no_seed;
    s.part = false;
    s.with = with;
    s.source = {0, before.first, static_cast<std::uint16_t>(middle - before.first)};
    s.destination = {0, middle, static_cast<std::uint16_t>(segment_count_ - middle)};
    for (const auto& part : list(s.source)) s.source.bytes += part.bytes;
    for (const auto& part : list(s.destination)) s.destination.bytes += part.bytes;
    const bool source_missing = s.source.bytes == 0 && op != operation::fill;
    const bool destination_missing = s.destination.bytes == 0 && !reading_operations.has(op);
    if (source_missing || destination_missing) [[unlikely]] {
      return rolled_back(before, refuse(errc::invalid_argument, "the step has no bytes"));
    }
    const bool single = s.source.count <= 1 && s.destination.count <= 1;
    if (single && (s.source.count + s.destination.count != 2 ||
                   !detail::overlaps(segments_[before.first], segments_[middle]))) [[likely]] {
      // Two segments that are apart: nothing more to look at.
    } else if (const char* why = detail::overlap_fault(op, list(s.source), list(s.destination));
               why != nullptr) [[unlikely]] {
      return rolled_back(before, refuse(errc::overlap, why));
    }
    track(s);
    results_[id_count_] = {};
    ++step_count_;
    return step_id{id_count_++};
  }

  // Notes which scratch buffers the step reads and writes.
  constexpr void track(const step& s) noexcept {
    for (const domain_segment& d : list(s.source)) track_read(d);
    for (const domain_segment& d : list(s.destination)) {
      track_write(d, s.destination.count == 1);
    }
  }
  constexpr void track_read(const domain_segment& d) noexcept {
    if (d.domain != scratch_domain) return;
    scratch_info& b = scratch_[scratch_buffer_of(d.address)];
    b.reader = step_count_;
    b.reads = static_cast<std::uint8_t>(d.bytes == b.bytes && b.reads == 0 ? 1 : 2);
  }
  constexpr void track_write(const domain_segment& d, bool alone) noexcept {
    if (d.domain != scratch_domain) return;
    scratch_info& b = scratch_[scratch_buffer_of(d.address)];
    b.writer = step_count_;
    const bool whole = d.bytes == b.bytes && alone;
    b.writes = static_cast<std::uint8_t>(whole && b.writes == 0 ? 1 : 2);
  }

  // Recursion over what is left of `s` once the writer nearest before step `i` has been taken out.
  [[nodiscard]] constexpr bool written_before(std::size_t i,
                                              const domain_segment& s) const noexcept {
    while (i != 0) {
      --i;
      for (const domain_segment& d : list(at(i).destination)) {
        if (!detail::overlaps(d, s)) continue;
        const std::uint64_t low = d.address > s.address ? d.address : s.address;
        const std::uint64_t high = d.end() < s.end() ? d.end() : s.end();
        if (low > s.address) {
          if (!written_before(i + 1, {s.address, low - s.address, s.domain})) return false;
        }
        return high == s.end() || written_before(i + 1, {high, s.end() - high, s.domain});
      }
    }
    return false;
  }

  // Left uninitialised: each entry is written when it comes into use.
  std::array<step, Steps> steps_;
  std::array<domain_segment, Segments> segments_;
  std::array<scratch_info, Steps> scratch_;
  std::array<step_result, Steps> results_;
  std::uint16_t segment_count_ = 0;
  std::uint8_t step_count_ = 0;
  std::uint8_t id_count_ = 0;
  std::uint8_t scratch_count_ = 0;
  std::uint8_t step_begin_ = 0;
  bool tracked_ = true;
};

}  // namespace phasebit::accel
