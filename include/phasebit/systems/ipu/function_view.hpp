// SPDX-License-Identifier: BSL-1.0
// How functions of one processor see one host's memory: the same bytes under an address of each. A
// transfer that arrived for one function is handed to another by translation, not by a copy.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/memory/memory_domain.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::systems {

// The windows through which a function reaches host memory, as a memory domain that translates into the
// domains of other functions of the same host. Up to Capacity windows; they share no address, and no byte of
// the host. Filled by one thread before use.
template <std::size_t Capacity = 16>
class function_view {
 public:
  // Errors: invalid_argument (no bytes), overflow, overlap (with a window), exhausted.
  result<> add(std::uint64_t address, std::uint64_t host, std::uint64_t bytes) noexcept {
    if (bytes == 0) return failure(errc::invalid_argument, "a window of no bytes", address);
    if (address + bytes < address || host + bytes < host) {
      return failure(errc::overflow, "a window wraps around", address);
    }
    for (std::size_t k = 0; k != count_; ++k) {
      const window& w = windows_[k];
      if ((address < w.address + w.bytes && w.address < address + bytes) ||
          (host < w.host + w.bytes && w.host < host + bytes)) {
        return failure(errc::overlap, "the window overlaps another of the function", address);
      }
    }
    if (count_ == Capacity) {
      return failure(errc::exhausted, "the function has more windows than its view holds",
                     Capacity);
    }
    windows_[count_++] = {address, host, bytes};
    return {};
  }
  // The domain `id` is that other view, from now on. Error: exhausted.
  result<> sees(domain_id id, const function_view& other) noexcept {
    if (peer_count_ == peers_.size()) {
      return failure(errc::exhausted, "the view translates into no further function", id.value);
    }
    peers_[peer_count_++] = {id, &other};
    return {};
  }

  // The host's address behind one of the function, and how many bytes are contiguous there, at most `bytes`.
  // Error: not_mapped.
  struct range {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
  };
  [[nodiscard]] result<range> to_host(std::uint64_t address, std::uint64_t bytes) const noexcept {
    for (std::size_t k = 0; k != count_; ++k) {
      const window& w = windows_[k];
      if (address - w.address >= w.bytes) continue;
      const std::uint64_t rest = w.bytes - (address - w.address);
      return range{w.host + (address - w.address), bytes < rest ? bytes : rest};
    }
    return failure(errc::not_mapped, "the function has no window at this address", address);
  }
  [[nodiscard]] result<range> from_host(std::uint64_t host, std::uint64_t bytes) const noexcept {
    for (std::size_t k = 0; k != count_; ++k) {
      const window& w = windows_[k];
      if (host - w.host >= w.bytes) continue;
      const std::uint64_t rest = w.bytes - (host - w.host);
      return range{w.address + (host - w.host), bytes < rest ? bytes : rest};
    }
    return failure(errc::not_mapped, "the function does not see this memory of the host", host);
  }

  // As a memory domain: nothing is copied, addresses become those of another function.
  [[nodiscard]] static constexpr domain_kind kind() noexcept { return domain_kind::guest; }
  [[nodiscard]] static constexpr domain_capabilities capabilities() noexcept {
    return {domain_capabilities::translate};
  }
  // Errors: not_supported (no such view), not_mapped.
  [[nodiscard]] result<domain_segment> translate(std::uint64_t address, std::uint64_t bytes, access,
                                                 domain_id into) noexcept {
    for (std::size_t k = 0; k != peer_count_; ++k) {
      if (peers_[k].id != into) continue;
      const auto host = to_host(address, bytes);
      if (!host) return host.error();
      const auto there = peers_[k].view->from_host(host->address, host->bytes);
      if (!there) return there.error();
      return domain_segment{there->address, there->bytes, into};
    }
    return failure(errc::not_supported, "the view does not translate into this memory domain",
                   into.value);
  }
  static result<domain_progress> pull(std::uint64_t address, std::span<std::byte>,
                                      std::uint64_t) noexcept {
    return failure(errc::not_supported, "a function's view translates and does not copy", address);
  }
  static result<domain_progress> push(std::uint64_t address, std::span<const std::byte>,
                                      std::uint64_t) noexcept {
    return failure(errc::not_supported, "a function's view translates and does not copy", address);
  }
  static std::size_t poll(domain_sink) noexcept { return 0; }

 private:
  struct window {
    std::uint64_t address = 0;
    std::uint64_t host = 0;
    std::uint64_t bytes = 0;
  };
  struct peer {
    domain_id id{};
    const function_view* view = nullptr;
  };

  std::array<window, Capacity> windows_{};
  std::array<peer, 4> peers_{};
  std::size_t count_ = 0;
  std::size_t peer_count_ = 0;
};
static_assert(TranslatingDomain<function_view<>>);

}  // namespace phasebit::systems
