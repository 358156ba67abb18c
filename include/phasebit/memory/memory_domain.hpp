// SPDX-License-Identifier: BSL-1.0
// Memory domains: address spaces with an identity and a stated set of operations, so that a data path
// can name memory which the processor, or the engine in use, cannot reach.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/translate.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

namespace phasebit {

// Where a domain's memory is. `local`: pointers of this process. `guest`: a virtual machine's memory.
// `device`: memory behind a BAR. `remote`: a peer's, which only push and pull reach. `scratch`: has
// addresses and no memory; a sequence gets memory for it when it runs, or none if it needs none.
enum class domain_kind : std::uint8_t { local, guest, device, remote, scratch };

[[nodiscard]] constexpr std::string_view name(domain_kind kind) noexcept {
  constexpr std::string_view names[] = {"local", "guest", "device", "remote", "scratch", "unknown"};
  const auto number = static_cast<std::size_t>(kind);
  return names[number < std::size(names) - 1 ? number : std::size(names) - 1];
}

// Names a domain within one domain_table. A value; trivial, so that tables of segments cost nothing to
// make.
struct domain_id {
  std::uint16_t value;
  friend constexpr auto operator<=>(domain_id, domain_id) noexcept = default;
};
inline constexpr domain_id local_domain{0};    // address = pointer of this process
inline constexpr domain_id scratch_domain{1};  // see domain_kind::scratch
inline constexpr std::uint16_t first_free_domain = 2;
inline constexpr std::uint16_t max_domains = 64;

// The operations a domain offers, as bits.
struct domain_capabilities {
  static constexpr std::uint8_t pull = 1;       // domain to local memory
  static constexpr std::uint8_t push = 2;       // local memory to domain
  static constexpr std::uint8_t zero = 4;       // zeros without a source
  static constexpr std::uint8_t translate = 8;  // addresses in another domain for the same bytes
  static constexpr std::uint8_t transfer = 16;  // domain to another domain, past this processor

  std::uint8_t bits = 0;

  [[nodiscard]] constexpr bool has(std::uint8_t wanted) const noexcept {
    return (bits & wanted) == wanted;
  }
  friend constexpr bool operator==(domain_capabilities, domain_capabilities) noexcept = default;
};

// `bytes` bytes at `address` of one domain. Memory is a list of these.
struct domain_segment {
  std::uint64_t address;
  std::uint64_t bytes;
  domain_id domain;

  [[nodiscard]] constexpr std::uint64_t end() const noexcept { return address + bytes; }
  friend constexpr bool operator==(domain_segment, domain_segment) noexcept = default;
};

[[nodiscard]] inline domain_segment local_segment(std::span<const std::byte> bytes) noexcept {
  return {to_local(bytes.data()).value(), bytes.size(), local_domain};
}
[[nodiscard]] inline std::span<std::byte> local_bytes(const domain_segment& s) noexcept {
  PHASEBIT_EXPECTS(s.domain == local_domain, "the segment is in another domain");
  return {pointer_of(local_addr{s.address}), static_cast<std::size_t>(s.bytes)};
}

// How an operation was accepted: it is over, or poll() reports it later.
enum class domain_progress : std::uint8_t { done, pending };

// Receives the end of a pending operation: the tag it was submitted with, and nullptr or the reason of
// its failure. After a failure the bytes at the destination are undefined.
struct domain_sink {
  void* context = nullptr;
  void (*complete)(void* context, std::uint64_t tag, const error* failed) noexcept = nullptr;
};

// A domain that reports its properties and takes part in pull and push if it has them. pull() and
// push() move all bytes or fail; the memory given stays valid until the operation ended. poll()
// reports each pending operation exactly once and returns how many it reported. One thread at a
// time.
template <class T>
concept MemoryDomain =
    requires(T& domain, const T& constant, std::uint64_t address, std::span<std::byte> to,
             std::span<const std::byte> from, std::uint64_t tag, domain_sink sink) {
      { constant.kind() } noexcept -> std::same_as<domain_kind>;
      { constant.capabilities() } noexcept -> std::same_as<domain_capabilities>;
      { domain.pull(address, to, tag) } noexcept -> std::same_as<result<domain_progress>>;
      { domain.push(address, from, tag) } noexcept -> std::same_as<result<domain_progress>>;
      { domain.poll(sink) } noexcept -> std::same_as<std::size_t>;
    };

// Writes zeros without a source.
template <class T>
concept ZeroingDomain =
    MemoryDomain<T> && requires(T& domain, std::uint64_t address, std::uint64_t tag) {
      {
        domain.zero(address, std::uint64_t{}, tag)
      } noexcept -> std::same_as<result<domain_progress>>;
    };

// Answers for the longest contiguous segment of domain `into` that begins at `address` and has
// 1..bytes bytes. Error: not_supported where the domain has no addresses in `into`.
template <class T>
concept TranslatingDomain =
    MemoryDomain<T> &&
    requires(T& domain, std::uint64_t address, std::uint64_t bytes, access wanted, domain_id into) {
      {
        domain.translate(address, bytes, wanted, into)
      } noexcept -> std::same_as<result<domain_segment>>;
    };

// Moves bytes straight into another domain.
template <class T>
concept TransferringDomain = MemoryDomain<T> && requires(T& domain, std::uint64_t address,
                                                         domain_segment to, std::uint64_t tag) {
  { domain.transfer(address, to, tag) } noexcept -> std::same_as<result<domain_progress>>;
};

// A MemoryDomain of any type behind one type. Refers to the domain, which outlives it. An operation
// that the domain lacks is refused with not_supported and its name.
class memory_domain_ref {
 public:
  constexpr memory_domain_ref() noexcept = default;
  template <MemoryDomain Domain>
    requires(!std::same_as<Domain, memory_domain_ref>)
  constexpr memory_domain_ref(Domain& domain) noexcept
      : object_(&domain), table_(&table_of<Domain>) {}

  constexpr explicit operator bool() const noexcept { return table_ != nullptr; }
  [[nodiscard]] constexpr const void* identity() const noexcept { return object_; }

  [[nodiscard]] domain_kind kind() const noexcept { return table().kind(object_); }
  [[nodiscard]] domain_capabilities capabilities() const noexcept {
    return table().capabilities(object_);
  }
  result<domain_progress> pull(std::uint64_t address, std::span<std::byte> to,
                               std::uint64_t tag) noexcept {
    return table().pull(object_, address, to, tag);
  }
  result<domain_progress> push(std::uint64_t address, std::span<const std::byte> from,
                               std::uint64_t tag) noexcept {
    return table().push(object_, address, from, tag);
  }
  result<domain_progress> zero(std::uint64_t address, std::uint64_t bytes,
                               std::uint64_t tag) noexcept {
    return table().zero(object_, address, bytes, tag);
  }
  [[nodiscard]] result<domain_segment> translate(std::uint64_t address, std::uint64_t bytes,
                                                 access wanted, domain_id into) noexcept {
    return table().translate(object_, address, bytes, wanted, into);
  }
  result<domain_progress> transfer(std::uint64_t address, domain_segment to,
                                   std::uint64_t tag) noexcept {
    return table().transfer(object_, address, to, tag);
  }
  std::size_t poll(domain_sink sink) noexcept { return table().poll(object_, sink); }

 private:
  using progress = result<domain_progress>;
  struct operations {
    domain_kind (*kind)(const void*) noexcept;
    domain_capabilities (*capabilities)(const void*) noexcept;
    progress (*pull)(void*, std::uint64_t, std::span<std::byte>, std::uint64_t) noexcept;
    progress (*push)(void*, std::uint64_t, std::span<const std::byte>, std::uint64_t) noexcept;
    progress (*zero)(void*, std::uint64_t, std::uint64_t, std::uint64_t) noexcept;
    result<domain_segment> (*translate)(void*, std::uint64_t, std::uint64_t, access,
                                        domain_id) noexcept;
    progress (*transfer)(void*, std::uint64_t, domain_segment, std::uint64_t) noexcept;
    std::size_t (*poll)(void*, domain_sink) noexcept;
  };

  template <class D>
  static constexpr operations table_of{
      .kind = [](const void* d) noexcept { return static_cast<const D*>(d)->kind(); },
      .capabilities =
          [](const void* d) noexcept { return static_cast<const D*>(d)->capabilities(); },
      .pull = [](void* d, std::uint64_t address, std::span<std::byte> to,
                 std::uint64_t tag) noexcept -> progress {
        return static_cast<D*>(d)->pull(address, to, tag);
      },
      .push = [](void* d, std::uint64_t address, std::span<const std::byte> from,
                 std::uint64_t tag) noexcept -> progress {
        return static_cast<D*>(d)->push(address, from, tag);
      },
      .zero = [](void* d, std::uint64_t address, std::uint64_t bytes,
                 std::uint64_t tag) noexcept -> progress {
        if constexpr (ZeroingDomain<D>) {
          return static_cast<D*>(d)->zero(address, bytes, tag);
        } else {
          static_cast<void>(d);
          static_cast<void>(bytes);
          static_cast<void>(tag);
          return failure(errc::not_supported, "the memory domain has no zero operation", address);
        }
      },
      .translate = [](void* d, std::uint64_t address, std::uint64_t bytes, access wanted,
                      domain_id into) noexcept -> result<domain_segment> {
        if constexpr (TranslatingDomain<D>) {
          return static_cast<D*>(d)->translate(address, bytes, wanted, into);
        } else {
          static_cast<void>(d);
          static_cast<void>(bytes);
          static_cast<void>(wanted);
          static_cast<void>(into);
          return failure(errc::not_supported,
                         "the memory domain cannot translate its addresses into another domain",
                         address);
        }
      },
      .transfer = [](void* d, std::uint64_t address, domain_segment to,
                     std::uint64_t tag) noexcept -> progress {
        if constexpr (TransferringDomain<D>) {
          return static_cast<D*>(d)->transfer(address, to, tag);
        } else {
          static_cast<void>(d);
          static_cast<void>(to);
          static_cast<void>(tag);
          return failure(errc::not_supported,
                         "the memory domain has no transfer into another domain", address);
        }
      },
      .poll = [](void* d, domain_sink sink) noexcept { return static_cast<D*>(d)->poll(sink); }};

  [[nodiscard]] const operations& table() const noexcept {
    PHASEBIT_EXPECTS(table_ != nullptr, "a memory domain reference that refers to no domain");
    return *table_;
  }

  void* object_ = nullptr;
  const operations* table_ = nullptr;
};

// The domains that may hold the same bytes under two addresses. Within one domain an address names one
// byte. Domains of one group may overlap anywhere, domains of two groups never. A domain that
// translates into local memory is in group 0 with local memory; scratch and every other domain are
// groups of their own.
struct alias_model {
  std::uint64_t shared = 1;  // bit per domain: in the group of local memory

  [[nodiscard]] constexpr bool may_share(domain_id a, domain_id b) const noexcept {
    if (a == b) return true;
    if (a.value >= max_domains || b.value >= max_domains) return false;
    return ((shared >> a.value) & (shared >> b.value) & 1U) != 0;
  }
  constexpr void share_with_local(domain_id d) noexcept {
    if (d.value < max_domains && d != scratch_domain) shared |= std::uint64_t{1} << d.value;
  }
};

// The domains of one data path, by number; local and scratch always exist. Filled by one thread
// before use; translate() may then be called by as many threads as the domains allow.
template <std::size_t Capacity = 16>
class domain_table {
  static_assert(Capacity > first_free_domain && Capacity <= max_domains);

 public:
  // Errors: already_exists (the same object twice; value = its number), exhausted, invalid_argument.
  result<domain_id> add(memory_domain_ref domain) noexcept {
    if (!domain) return failure(errc::invalid_argument, "a reference that refers to no domain");
    for (std::uint16_t i = first_free_domain; i != count_; ++i) {
      if (domains_[i].identity() == domain.identity()) {
        return failure(errc::already_exists, "the memory domain was added before", i);
      }
    }
    if (count_ == Capacity) {
      return failure(errc::exhausted, "there are more memory domains than the table holds", count_);
    }
    const domain_id id{count_};
    domains_[count_++] = domain;
    if (domain.capabilities().has(domain_capabilities::translate)) aliases_.share_with_local(id);
    return id;
  }

  [[nodiscard]] std::uint16_t size() const noexcept { return count_; }
  [[nodiscard]] bool contains(domain_id id) const noexcept { return id.value < count_; }
  [[nodiscard]] const alias_model& aliases() const noexcept { return aliases_; }

  [[nodiscard]] domain_kind kind(domain_id id) const noexcept {
    PHASEBIT_EXPECTS(contains(id), "no such memory domain");
    if (id == local_domain) return domain_kind::local;
    if (id == scratch_domain) return domain_kind::scratch;
    return domains_[id.value].kind();
  }
  [[nodiscard]] domain_capabilities capabilities(domain_id id) const noexcept {
    PHASEBIT_EXPECTS(contains(id), "no such memory domain");
    if (id == local_domain)
      return {domain_capabilities::pull | domain_capabilities::push | domain_capabilities::zero |
              domain_capabilities::translate};
    if (id == scratch_domain) return {};
    return domains_[id.value].capabilities();
  }
  // Not for local and scratch, which have no object.
  [[nodiscard]] memory_domain_ref& operator[](domain_id id) noexcept {
    PHASEBIT_EXPECTS(id.value >= first_free_domain && contains(id), "no such memory domain");
    return domains_[id.value];
  }

  // The longest contiguous part of `s`, from its start, as a segment of `into`. Errors: not_found (no
  // such domain), not_supported (scratch, or a domain without addresses in `into`), overflow, the
  // domain's own, and protocol where its answer has an impossible length.
  [[nodiscard]] result<domain_segment> translate(const domain_segment& s, access wanted,
                                                 domain_id into) noexcept {
    if (!contains(s.domain) || !contains(into)) {
      return failure(errc::not_found, "no such memory domain", s.domain.value);
    }
    if (s.bytes == 0) return failure(errc::invalid_argument, "a segment of no bytes", s.address);
    if (s.end() < s.address) {
      return failure(errc::overflow, "the segment wraps around its domain", s.address);
    }
    if (s.domain == into) return s;
    if (s.domain == scratch_domain || into == scratch_domain || s.domain == local_domain) {
      return failure(errc::not_supported,
                     "the memory domain cannot translate its addresses into this domain",
                     s.address);
    }
    const auto answer = domains_[s.domain.value].translate(s.address, s.bytes, wanted, into);
    if (!answer) return answer.error();
    if (answer->bytes == 0 || answer->bytes > s.bytes || answer->domain != into) {
      return failure(errc::protocol, "the memory domain answered with an impossible segment",
                     s.address);
    }
    return answer;
  }

  // Calls poll() of every domain; returns how many operations ended.
  std::size_t poll(domain_sink sink) noexcept {
    std::size_t ended = 0;
    for (std::uint16_t i = first_free_domain; i != count_; ++i) ended += domains_[i].poll(sink);
    return ended;
  }

 private:
  std::array<memory_domain_ref, Capacity> domains_{};
  alias_model aliases_{};
  std::uint16_t count_ = first_free_domain;
};

}  // namespace phasebit
