// SPDX-License-Identifier: BSL-1.0
// Memory domains ready for use: memory of another space that this process has mapped (a guest's, a
// device's BAR), and a simulated remote peer for tests of code that must not block.
#pragma once

#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/memory/memory_domain.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit {

// The domain of a space which `Translator` maps to pointers of this process: a guest_memory (kind
// guest), a region_map of a BAR (kind device). Every operation ends at once. Refers to the translator;
// its regions must not be removed while an operation of a sequence is in flight on them. translate()
// serves local memory only. Threads: as the translator.
template <LocalTranslator Translator>
class mapped_domain {
  using space = typename Translator::from;

 public:
  explicit mapped_domain(Translator& memory, domain_kind kind = domain_kind::guest) noexcept
      : memory_(&memory), kind_(kind) {}

  [[nodiscard]] domain_kind kind() const noexcept { return kind_; }
  [[nodiscard]] domain_capabilities capabilities() const noexcept {
    using c = domain_capabilities;
    return {c::pull | c::push | c::zero | c::translate};
  }
  result<domain_progress> pull(std::uint64_t at, std::span<std::byte> to, std::uint64_t) noexcept {
    return ended(dma_read(*memory_, address<space>{at}, to));
  }
  result<domain_progress> push(std::uint64_t at, std::span<const std::byte> from,
                               std::uint64_t) noexcept {
    return ended(dma_write(*memory_, address<space>{at}, from));
  }
  result<domain_progress> zero(std::uint64_t at, std::uint64_t bytes, std::uint64_t) noexcept {
    return ended(dma_fill(*memory_, address<space>{at}, bytes, std::byte{0}));
  }
  [[nodiscard]] result<domain_segment> translate(std::uint64_t at, std::uint64_t bytes,
                                                 access wanted, domain_id into) noexcept {
    if (into != local_domain) {
      return failure(errc::not_supported, "mapped memory has addresses in local memory only", at);
    }
    const auto found = memory_->translate(address<space>{at}, bytes, wanted);
    if (!found) return found.error();
    return domain_segment{found->begin.value(), found->bytes, local_domain};
  }
  std::size_t poll(domain_sink) noexcept { return 0; }

 private:
  static result<domain_progress> ended(const result<>& moved) noexcept {
    if (!moved) return moved.error();
    return domain_progress::done;
  }

  Translator* memory_;
  domain_kind kind_;
};

// A simulated peer: `bytes` can be reached by pull, push and zero alone, and each operation ends in a
// later poll(), where the bytes move. `Depth` operations may be pending; more are refused with busy.
// fail_next() makes the next operation to end fail; vanish() makes all of them fail. One thread.
template <std::size_t Depth = 16>
class simulated_remote_domain {
 public:
  explicit simulated_remote_domain(std::span<std::byte> bytes) noexcept : bytes_(bytes) {}

  [[nodiscard]] domain_kind kind() const noexcept { return domain_kind::remote; }
  [[nodiscard]] domain_capabilities capabilities() const noexcept {
    using c = domain_capabilities;
    return {c::pull | c::push | c::zero};
  }
  result<domain_progress> pull(std::uint64_t at, std::span<std::byte> to,
                               std::uint64_t tag) noexcept {
    return enqueue({verb::pull, at, to.data(), to.size(), tag});
  }
  result<domain_progress> push(std::uint64_t at, std::span<const std::byte> from,
                               std::uint64_t tag) noexcept {
    return enqueue({verb::push, at, const_cast<std::byte*>(from.data()), from.size(), tag});
  }
  result<domain_progress> zero(std::uint64_t at, std::uint64_t bytes, std::uint64_t tag) noexcept {
    return enqueue({verb::zero, at, nullptr, bytes, tag});
  }

  // Ends one pending operation, the oldest.
  std::size_t poll(domain_sink sink) noexcept {
    if (pending_ == 0) return 0;
    const request r = queue_[0];
    for (std::size_t i = 1; i != pending_; ++i) queue_[i - 1] = queue_[i];
    --pending_;
    const auto size = static_cast<std::size_t>(r.bytes);
    if (vanished_ || fail_next_) {
      fail_next_ = false;
      const error why = vanished_ ? failure(errc::removed, "the remote memory domain is gone")
                                  : failure(errc::io, "the remote memory domain failed");
      sink.complete(sink.context, r.tag, &why);
      return 1;
    }
    std::byte* there = bytes_.data() + r.at;
    if (r.what == verb::pull) __builtin_memcpy(r.local, there, size);
    if (r.what == verb::push) __builtin_memcpy(there, r.local, size);
    if (r.what == verb::zero) __builtin_memset(there, 0, size);
    moved_ += r.bytes;
    sink.complete(sink.context, r.tag, nullptr);
    return 1;
  }

  void fail_next() noexcept { fail_next_ = true; }
  void vanish() noexcept { vanished_ = true; }
  [[nodiscard]] std::size_t pending() const noexcept { return pending_; }
  [[nodiscard]] std::uint64_t bytes_moved() const noexcept { return moved_; }

 private:
  enum class verb : std::uint8_t { pull, push, zero };
  struct request {
    verb what = verb::pull;
    std::uint64_t at = 0;
    std::byte* local = nullptr;
    std::uint64_t bytes = 0;
    std::uint64_t tag = 0;
  };

  result<domain_progress> enqueue(const request& r) noexcept {
    if (vanished_) return failure(errc::removed, "the remote memory domain is gone");
    if (r.at > bytes_.size() || r.bytes > bytes_.size() - r.at) {
      return failure(errc::not_mapped, "the range lies outside of the remote memory", r.at);
    }
    if (pending_ == Depth) return failure(errc::busy, "too many operations are pending", Depth);
    queue_[pending_++] = r;
    return domain_progress::pending;
  }

  std::span<std::byte> bytes_;
  std::array<request, Depth> queue_{};
  std::size_t pending_ = 0;
  std::uint64_t moved_ = 0;
  bool fail_next_ = false;
  bool vanished_ = false;
};
static_assert(MemoryDomain<simulated_remote_domain<>> && ZeroingDomain<simulated_remote_domain<>> &&
              !TranslatingDomain<simulated_remote_domain<>>);

}  // namespace phasebit
