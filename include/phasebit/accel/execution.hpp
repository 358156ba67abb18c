// SPDX-License-Identifier: BSL-1.0
// Runs a planned sequence on an engine and its memory domains, without waiting for either.
#pragma once

#include <phasebit/accel/checksum.hpp>
#include <phasebit/accel/engine.hpp>
#include <phasebit/accel/plan.hpp>
#include <phasebit/accel/sequence.hpp>
#include <phasebit/core/callback.hpp>
#include <phasebit/core/int_cast.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel {

// Replaces every segment of a domain that has addresses in `engine_domain` by those, cut where the
// translation is cut. Before planning: afterwards the alias model is exact for these domains. Scratch,
// and domains that only pull and push reach, are left as they are. Errors: the translation's, with the
// step; exhausted where the segment table is full. The sequence is then not to be run.
template <class Sequence, class DomainTable>
result<> resolve(Sequence& s, DomainTable& domains, domain_id engine_domain) noexcept {
  for (std::size_t i = 0; i != s.size(); ++i) {
    for (const bool source : {true, false}) {
      operand& o = source ? s[i].source : s[i].destination;
      bool needed = false;
      for (const domain_segment& d : s.list(o)) {
        if (d.domain == scratch_domain || d.domain == engine_domain) continue;
        if (!domains.contains(d.domain)) {
          return failure(errc::not_found, "no such memory domain", d.domain.value).at(s[i].id);
        }
        needed = needed || domains.capabilities(d.domain).has(domain_capabilities::translate);
      }
      if (!needed) continue;
      const std::uint16_t first = s.segment_count();
      for (std::uint16_t k = 0; k != o.count; ++k) {
        domain_segment d = s.segment_at(std::size_t{o.first} + k);
        while (d.bytes != 0) {
          if (s.free_segments() == 0) {
            return failure(errc::exhausted, "the translated segments are more than the capacity")
                .at(s[i].id);
          }
          if (d.domain == scratch_domain || d.domain == engine_domain ||
              !domains.capabilities(d.domain).has(domain_capabilities::translate)) {
            s.push_segment(d);
            break;
          }
          const auto part =
              domains.translate(d, source ? access::read : access::write, engine_domain);
          if (!part) return part.error().at(s[i].id);
          s.push_segment(*part);
          d.address += part->bytes;
          d.bytes -= part->bytes;
        }
      }
      o.first = first;
      o.count = static_cast<std::uint16_t>(s.segment_count() - first);
    }
  }
  return {};
}

// How a run ended. `failed` names the first step in the sequence's order that failed; the bytes of all
// destinations are then undefined.
struct outcome {
  bool good = false;
  step_id failed{};
  step_status status = step_status::not_run;
  errc code = errc::cancelled;  // of an engine or domain error
};

// One run of one sequence. Everything is checked and reserved in start(), before the first step runs:
// the engine has every operation, every domain supports the operations on it, and the scratch pool is large
// enough. Steps begin when the steps they depend on have ended, so that independent ones run side by
// side. Sequence, engine, domains and pool outlive the run. One thread.
template <class Sequence, Engine E, class DomainTable>
class execution {
 public:
  // `engine_domain` is the domain whose addresses the engine takes; local_domain for software.
  execution(Sequence& s, E& engine, DomainTable& domains,
            domain_id engine_domain = local_domain) noexcept
      : s_(&s), engine_(&engine), domains_(&domains), engine_domain_(engine_domain) {}
  execution(const execution&) = delete;
  execution& operator=(const execution&) = delete;

  // `pool` lies in the engine's domain at address `pool_address`. Errors name the step and leave all
  // memory as it was: not_supported, out_of_range, exhausted (the pool is too small; value = the bytes
  // needed), not_found, busy (this run has begun already).
  result<> start(std::uint64_t pool_address, std::uint64_t pool_bytes,
                 std::uint64_t needed_bytes) noexcept {
    if (state_ != state::idle) return failure(errc::busy, "the sequence is running or has run");
    if (needed_bytes > pool_bytes) {
      return failure(errc::exhausted, "the scratch pool is too small for the sequence",
                     needed_bytes);
    }
    const engine_capabilities can = engine_->capabilities();
    for (std::size_t i = 0; i != s_->size(); ++i) {
      if (const auto ok = check((*s_)[i], can); !ok) return ok.error();
    }
    for (std::size_t k = 0; k != s_->segment_count(); ++k) {
      domain_segment& d = s_->segment_at(k);
      if (d.domain != scratch_domain) continue;
      const auto& buffer = s_->scratch_buffer(scratch_buffer_of(d.address));
      d.address = pool_address + buffer.offset + scratch_offset_of(d.address);
      d.domain = engine_domain_;
    }
    // With the pool's addresses, so that buffers which share bytes of the pool wait for each other.
    target where;
    where.aliases = domains_->aliases();
    for (std::size_t i = 0; i != s_->size(); ++i) needs_[i] = dependencies(*s_, where, i);
    state_ = state::running;
    advance();
    return {};
  }
  // The same with a pool of local memory.
  result<> start(std::span<std::byte> pool, std::uint64_t needed_bytes) noexcept {
    PHASEBIT_EXPECTS(engine_domain_ == local_domain, "the engine does not work on local memory");
    return start(to_local(pool.data()).value(), pool.size(), needed_bytes);
  }

  // Lets engine and domains report, and begins what has become ready. Returns whether the run is over.
  bool poll() noexcept {
    if (state_ != state::running) return finished();
    engine_->poll({this, [](void* self, std::uint64_t tag, const work_result& r,
                            const error* failed) noexcept {
                     static_cast<execution*>(self)->engine_ended(tag, r, failed);
                   }});
    domains_->poll({this, [](void* self, std::uint64_t tag, const error* failed) noexcept {
                      static_cast<execution*>(self)->domain_ended(tag, failed);
                    }});
    advance();
    return finished();
  }

  // Begins no further step; the run is over when what is in flight has ended, which poll() notices.
  void abort() noexcept {
    if (state_ == state::idle) state_ = state::over;
    if (state_ != state::running) return;
    stopping_ = true;
    advance();
  }

  // Whether nothing is in flight any more: pool and memory may be used for something else.
  [[nodiscard]] bool finished() const noexcept { return state_ == state::over; }
  [[nodiscard]] outcome result_of_run() const noexcept {
    outcome o;
    const std::uint64_t all = mask(s_->size());
    if (ended_ == all && failed_ == 0) {
      o.good = true;
      o.status = step_status::good;
      return o;
    }
    for (std::size_t i = 0; i != s_->size(); ++i) {
      if ((failed_ >> i & 1U) == 0) continue;
      const step& s = (*s_)[i];
      const bool first =
          !s_->result_of({s.id}).good() && s_->result_of({s.id}).status != step_status::not_run;
      o.failed = {first || s.then == operation::none ? s.id : s.then_id};
      o.status = s_->result_of(o.failed).status;
      o.code = code_;
      return o;
    }
    for (std::size_t i = 0; i != s_->size(); ++i) {
      if ((ended_ >> i & 1U) != 0) continue;
      o.failed = {(*s_)[i].id};
      break;
    }
    o.status = step_status::aborted;
    return o;
  }
  // Steps that were given to an engine or a domain and have not ended.
  [[nodiscard]] std::size_t in_flight() const noexcept {
    std::size_t n = 0;
    for (std::uint64_t left = begun_ & ~ended_; left != 0; left &= left - 1) ++n;
    return n;
  }

 private:
  enum class state : std::uint8_t { idle, running, over };

  [[nodiscard]] static constexpr std::uint64_t mask(std::size_t n) noexcept {
    return n == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1;
  }
  [[nodiscard]] bool native(const domain_segment& d) const noexcept {
    return d.domain == engine_domain_ || d.domain == scratch_domain;
  }
  [[nodiscard]] bool all_native(const step& s) const noexcept {
    for (const auto list : {s_->sources(s), s_->destinations(s)}) {
      for (const domain_segment& d : list) {
        if (!native(d)) return false;
      }
    }
    return true;
  }

  // Whether the step can be run: by the engine, or by the domains of its segments.
  [[nodiscard]] result<> check(const step& s, const engine_capabilities& can) noexcept {
    if (s.op == operation::combine_crc32c || s.op == operation::reuse_result) return {};
    for (const auto list : {s_->sources(s), s_->destinations(s)}) {
      for (const domain_segment& d : list) {
        if (!domains_->contains(d.domain)) {
          return failure(errc::not_found, "no such memory domain", d.domain.value).at(s.id);
        }
      }
    }
    if (all_native(s)) return check_step(can, s);
    const auto refuse = [&s](const char* why) noexcept {
      return failure(errc::not_supported, why).of(name(s.op)).at(s.id);
    };
    const bool moves = s.op == operation::copy || (s.op == operation::fill && s.with.value == 0);
    if (!moves || s.then != operation::none) {
      return refuse("the engine does not reach the step's memory: copy it to scratch first");
    }
    if (engine_domain_ != local_domain) {
      return refuse("pull and push need an engine that works on local memory");
    }
    bool source_native = true;
    for (const domain_segment& d : s_->sources(s)) source_native = source_native && native(d);
    bool destination_native = true;
    for (const domain_segment& d : s_->destinations(s)) {
      destination_native = destination_native && native(d);
      if (native(d)) continue;
      const auto c = domains_->capabilities(d.domain);
      if (s.op == operation::fill && !c.has(domain_capabilities::zero)) {
        return refuse("the memory domain has no zero operation");
      }
      if (s.op == operation::copy && !c.has(domain_capabilities::push)) {
        return refuse("the memory domain cannot be pushed to");
      }
    }
    if (s.op == operation::fill) return {};
    for (const domain_segment& d : s_->sources(s)) {
      if (native(d)) continue;
      const auto c = domains_->capabilities(d.domain);
      if (!destination_native && !c.has(domain_capabilities::transfer)) {
        return refuse("the memory domain has no transfer into another domain");
      }
      if (!c.has(domain_capabilities::pull))
        return refuse("the memory domain cannot be pulled from");
    }
    return {};
  }

  void advance() noexcept {
    for (bool again = true; again;) {
      again = false;
      for (std::size_t i = 0; i != s_->size(); ++i) {
        const std::uint64_t bit = std::uint64_t{1} << i;
        if (((begun_ & bit) != 0 && !moving(i)) || stopping_) continue;
        if ((ended_ & bit) != 0 || (needs_[i] & ~ended_) != 0) continue;
        const bool was = (ended_ & bit) != 0;
        begin(i);
        again = again || (((ended_ & bit) != 0) != was);
      }
    }
    if (stopping_) {
      for (std::size_t i = 0; i != s_->size(); ++i) {
        if (!mover_[i].waiting_to_submit) continue;
        mover_[i].waiting_to_submit = false;
        begun_ &= ~(std::uint64_t{1} << i);
      }
    }
    const bool all = ended_ == mask(s_->size());
    if (all || (stopping_ && (begun_ & ~ended_) == 0)) state_ = state::over;
  }

  void begin(std::size_t i) noexcept {
    const step& s = (*s_)[i];
    const std::uint64_t bit = std::uint64_t{1} << i;
    if (s.op == operation::reuse_result) {
      begun_ |= bit;
      s_->result_slot(s.id) = s_->result_of({static_cast<std::uint8_t>(s.with.value)});
      end(i);
      return;
    }
    if (s.op == operation::combine_crc32c) {
      begun_ |= bit;
      std::uint32_t crc = 0;
      for (const domain_segment& part : s_->sources(s)) {
        const auto value = s_->result_of({static_cast<std::uint8_t>(part.address)}).value;
        crc = phasebit::accel::combine_crc32c(crc, static_cast<std::uint32_t>(value), part.bytes);
      }
      s_->result_slot(s.id) = {crc, step_status::good};
      end(i);
      return;
    }
    if (!all_native(s)) {
      move(i);
      return;
    }
    work w{&s, s.with, s_->sources(s), s_->destinations(s)};
    if (s.seed_from != step::no_seed) w.with.value = s_->result_of({s.seed_from}).value;
    work_result out;
    begun_ |= bit;
    const auto taken = engine_->submit(w, i, out);
    if (!taken) {
      if (taken.error().code == errc::busy) {
        begun_ &= ~bit;  // tried again in a later poll()
        return;
      }
      fail(i, taken.error().code);
      return;
    }
    if (*taken == engine_progress::done) engine_ended(i, out, nullptr);
  }

  void engine_ended(std::uint64_t tag, const work_result& r, const error* failed) noexcept {
    const auto i = int_cast<std::size_t>(tag);
    // Ignore a tag that was not started in this run, or has ended already.
    if (i >= s_->size() || (begun_ >> i & 1U) == 0 || (ended_ >> i & 1U) != 0) return;
    if (failed != nullptr) {
      fail(i, failed->code);
      return;
    }
    const step& s = (*s_)[i];
    step_result first = r.first;
    if (s.part && !first.good()) first.value += s.then_with.value2;
    note(s, first);
    if (s.then != operation::none) s_->result_slot(s.then_id) = r.second;
    if (!r.first.good() || (s.then != operation::none && !r.second.good())) {
      failed_ |= std::uint64_t{1} << i;
      stopping_ = true;
    }
    end(i);
  }
  // An operation without a result of its own may share its id with one that has (copy_crc32c).
  void note(const step& s, const step_result& r) noexcept {
    step_result& slot = s_->result_slot(s.id);
    // Parts of one step share a result: a part that failed is not covered by one that ends later.
    if (s.part && slot.status != step_status::not_run && !slot.good()) return;
    if (pure_operations.has(s.op) && r.good() && slot.status != step_status::not_run) return;
    slot = r;
  }
  void end(std::size_t i) noexcept {
    ended_ |= std::uint64_t{1} << i;
    const step& s = (*s_)[i];
    if (!s_->result_of({s.id}).good() && s_->result_of({s.id}).status != step_status::not_run) {
      failed_ |= std::uint64_t{1} << i;
      stopping_ = true;
    }
  }
  void fail(std::size_t i, errc code) noexcept {
    s_->result_slot((*s_)[i].id).status = step_status::engine_error;
    failed_ |= std::uint64_t{1} << i;
    if (code_ == errc::cancelled) code_ = code;
    stopping_ = true;
    ended_ |= std::uint64_t{1} << i;
  }

  // Executes a copy or zero through the memory domains, one contiguous part after the other.
  [[nodiscard]] bool moving(std::size_t i) const noexcept { return mover_[i].waiting_to_submit; }
  void move(std::size_t i) noexcept {
    const step& s = (*s_)[i];
    auto& m = mover_[i];
    begun_ |= std::uint64_t{1} << i;
    m.waiting_to_submit = false;
    while (m.done != s.destination.bytes) {
      const domain_segment to = part(s_->destinations(s), m.done);
      domain_segment from = to;
      std::uint64_t n = to.bytes;
      if (s.op == operation::copy) {
        from = part(s_->sources(s), m.done);
        if (from.bytes < n) n = from.bytes;
      }
      const auto taken = move_part(s, from, to, n, i);
      if (!taken) {
        if (taken.error().code == errc::busy) {
          m.waiting_to_submit = true;
          return;
        }
        fail(i, taken.error().code);
        return;
      }
      m.done += n;
      if (*taken == domain_progress::pending)
        return;  // the next part starts after this one has ended
    }
    note(s, {0, step_status::good});
    end(i);
  }
  result<domain_progress> move_part(const step& s, const domain_segment& from,
                                    const domain_segment& to, std::uint64_t n,
                                    std::uint64_t tag) noexcept {
    const auto size = int_cast<std::size_t>(n);
    if (s.op == operation::fill) {
      if (!native(to)) return (*domains_)[to.domain].zero(to.address, n, tag);
      __builtin_memset(pointer_of(local_addr{to.address}), 0, size);
      return domain_progress::done;
    }
    if (native(from) && native(to)) {
      __builtin_memcpy(pointer_of(local_addr{to.address}), pointer_of(local_addr{from.address}),
                       size);
      return domain_progress::done;
    }
    if (native(to)) {
      return (*domains_)[from.domain].pull(from.address, {pointer_of(local_addr{to.address}), size},
                                           tag);
    }
    if (native(from)) {
      return (*domains_)[to.domain].push(to.address, {pointer_of(local_addr{from.address}), size},
                                         tag);
    }
    domain_segment whole = to;
    whole.bytes = n;
    return (*domains_)[from.domain].transfer(from.address, whole, tag);
  }
  [[nodiscard]] static domain_segment part(std::span<const domain_segment> list,
                                           std::uint64_t offset) noexcept {
    for (const domain_segment& d : list) {
      if (offset < d.bytes) return {d.address + offset, d.bytes - offset, d.domain};
      offset -= d.bytes;
    }
    return {};
  }
  void domain_ended(std::uint64_t tag, const error* failed) noexcept {
    const auto i = int_cast<std::size_t>(tag);
    if (i >= s_->size() || (begun_ >> i & 1U) == 0 || (ended_ >> i & 1U) != 0) return;
    if (failed != nullptr) {
      fail(i, failed->code);
    } else if (stopping_ && mover_[i].done != (*s_)[i].destination.bytes) {
      // Aborted between two parts: do not continue the step.
      s_->result_slot((*s_)[i].id).status = step_status::aborted;
      begun_ &= ~(std::uint64_t{1} << i);
    } else {
      move(i);
    }
  }

  struct mover {
    std::uint64_t done = 0;
    bool waiting_to_submit = false;
  };

  Sequence* s_;
  E* engine_;
  DomainTable* domains_;
  domain_id engine_domain_;
  state state_ = state::idle;
  bool stopping_ = false;
  errc code_ = errc::cancelled;
  std::uint64_t begun_ = 0;
  std::uint64_t ended_ = 0;
  std::uint64_t failed_ = 0;
  std::array<std::uint64_t, Sequence::step_capacity> needs_{};
  std::array<mover, Sequence::step_capacity> mover_{};
};

}  // namespace phasebit::accel
