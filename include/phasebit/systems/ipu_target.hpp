// SPDX-License-Identifier: BSL-1.0
// An NVMe target whose blocks are encrypted and protected on their way to a wire: the asynchronous media of a
// controller on an infrastructure processor. Structure: SPDK as IPU firmware.
//
// Layers (the host's memory, crypto, DIF, the sink) each append their own copy and operation to a sequence,
// as if they were alone. The sequence is planned as a whole and run once, so that from the host's memory to
// the sink's buffer an engine that fuses moves the data once. movements() reports what layers asked for and
// what was done.
#pragma once

#include <phasebit/accel/execution.hpp>
#include <phasebit/accel/plan.hpp>
#include <phasebit/accel/sequence.hpp>
#include <phasebit/block/async_media.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/memory_domain.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::systems {

// Where stored blocks go: a byte stream, or a queue pair of another drive. One operation per slot.
//
//   buffer(slot)                memory that the sink sends from and receives into; at least one request long
//   write(slot, block, bytes)   sends the first `bytes` of the buffer as stored blocks from `block` on
//   read(slot, block, bytes)    fills the buffer; its bytes are valid once the slot was delivered
//   flush(slot)
//   poll(sink)                  calls sink(slot, status) for each operation that ended, once
//
// write(), read() and flush() answer like AsyncBlockMedia::submit(). `block_bytes` given at the start is
// what a stored block has. One thread.
template <class T>
concept StoredBlockSink =
    requires(T& sink, const T& constant, std::size_t slot, std::uint64_t block, std::size_t bytes) {
      { constant.block_count() } noexcept -> std::same_as<std::uint64_t>;
      { constant.slots() } noexcept -> std::same_as<std::size_t>;
      { sink.buffer(slot) } noexcept -> std::same_as<std::span<std::byte>>;
      { sink.write(slot, block, bytes) } noexcept -> std::same_as<block::media_answer>;
      { sink.read(slot, block, bytes) } noexcept -> std::same_as<block::media_answer>;
      { sink.flush(slot) } noexcept -> std::same_as<block::media_answer>;
    };

// The layers between the host and the sink.
struct ipu_layers {
  bool encrypts = true;
  bool protects = true;
  std::uint16_t key = 0;  // of the engine's keys; a block is a data unit, its LBA the tweak
  accel::protection protection{};  // block_bytes is the pipeline's; the reference tag is the LBA's
};

// Of all requests since the start. A movement is a step that writes data.
struct ipu_movements {
  std::uint64_t requests = 0;
  std::uint64_t composed = 0;        // movements that the layers appended
  std::uint64_t taken = 0;           // movements after planning
  std::uint64_t bytes_composed = 0;  // read and written
  std::uint64_t bytes_taken = 0;
  std::uint64_t failed_checks = 0;  // blocks whose protection information did not fit
};

// An AsyncBlockMedia over a sink and an engine. Requests are at most `most_bytes` of blocks and Segments
// host segments long; a longer one, discard, and a range of zeros that is too long end with not_supported:
// let the controller's transfer limit be that. A block whose check fails ends its request with read_failed.
// Sequences run one after the other, transfers of the sink side by side. Sink, engine and pool outlive the
// pipeline. One thread.
template <StoredBlockSink Sink, accel::Engine Engine, std::size_t Slots = 8,
          std::size_t Segments = 64>
class ipu_pipeline {
  using sequence = accel::sequence<8, 4 * Segments + 32>;
  using domains = domain_table<4>;
  using execution = accel::execution<sequence, Engine, domains>;

 public:
  // `pool` is scratch memory for what cannot be fused: 3 * (block + 64 bytes) per block of a request suffice.
  // Errors: misaligned (a block is not 512 to 4096 bytes, or not what the protection can have),
  // invalid_argument (the sink has fewer slots than the pipeline). Requests that are longer than the sink's buffers
  // end with not_supported.
  [[nodiscard]] static result<> check(const Sink& sink, std::uint32_t block_bytes,
                                      const ipu_layers& layers) noexcept {
    if (!block::is_block_size(block_bytes)) {
      return failure(errc::misaligned, "a block has 512, 1024, 2048 or 4096 bytes", block_bytes);
    }
    accel::protection p = layers.protection;
    p.block_bytes = block_bytes;
    if (layers.protects) {
      if (const auto ok = accel::check_protection(p); !ok) return ok.error();
    }
    if (sink.slots() < Slots) {
      return failure(errc::invalid_argument, "the sink has fewer slots than the pipeline",
                     sink.slots());
    }
    return {};
  }
  // The arguments have passed check().
  ipu_pipeline(Sink& sink, Engine& engine, std::span<std::byte> pool, std::uint32_t block_bytes,
               const ipu_layers& layers) noexcept
      : sink_(&sink), engine_(&engine), pool_(pool), block_(block_bytes), layers_(layers) {
    layers_.protection.block_bytes = block_bytes;
  }
  ipu_pipeline(const ipu_pipeline&) = delete;
  ipu_pipeline& operator=(const ipu_pipeline&) = delete;

  [[nodiscard]] std::uint32_t block_size() const noexcept { return block_; }
  [[nodiscard]] std::uint64_t block_count() const noexcept { return sink_->block_count(); }
  [[nodiscard]] static bool reaches(memory_domain domain) noexcept {
    return domain == memory_domain::local;
  }
  [[nodiscard]] bool drained() const noexcept { return used_ == 0; }
  static void cancel(block::media_tag) noexcept {}

  [[nodiscard]] const ipu_movements& movements() const noexcept { return movements_; }
  // Bytes of a block as the sink stores it.
  [[nodiscard]] std::uint32_t stored_bytes() const noexcept {
    return layers_.protects ? layers_.protection.protected_bytes() : block_;
  }

  [[nodiscard]] block::media_answer submit(const block::media_request& r,
                                           block::media_tag tag) noexcept {
    using block::media_operation;
    using block::media_status;
    const auto done = [](media_status s) noexcept { return block::media_answer::done(s); };
    if (r.operation == media_operation::discard) return done(media_status::not_supported);
    if (r.operation != media_operation::flush) {
      if (!block::in_range(*this, r.lba, r.blocks)) return done(media_status::out_of_range);
      if (r.blocks == 0) return done(media_status::good);
    }
    std::size_t at = 0;
    while (at != Slots && slots_[at].is != state::free) ++at;
    if (at == Slots) return block::media_answer::busy();
    const std::uint64_t most = sink_->buffer(at).size() / stored_bytes();
    if (r.operation != media_operation::flush &&
        (r.blocks > most || r.segments.size() > Segments)) {
      return done(media_status::not_supported);
    }
    slot& s = slots_[at];
    s.request = r;
    s.tag = tag;
    s.is = r.operation == media_operation::read || r.operation == media_operation::flush
               ? state::to_transfer
               : state::to_run;
    ++used_;
    return block::media_answer::pending();
  }

  template <class Deliver>
  std::size_t poll(Deliver&& deliver) noexcept {
    std::size_t ended = 0;
    sink_->poll([&](std::size_t at, block::media_status status) noexcept {
      if (at < Slots && slots_[at].is == state::transferring) transferred(at, status);
    });
    for (std::size_t turn = 0; turn != Slots; ++turn) {
      slot& s = slots_[turn];
      if (s.is == state::to_transfer) transfer(turn);
      if (s.is == state::to_run && running_ == Slots) begin(turn);
      if (s.is == state::running && run_->poll()) finish(turn);
      if (s.is == state::to_transfer) transfer(turn);
    }
    for (slot& s : slots_) {
      if (s.is != state::over) continue;
      const auto tag = s.tag;
      const auto status = s.status;
      s.is = state::free;
      --used_;
      ++ended;
      deliver(tag, status);
    }
    return ended;
  }

 private:
  enum class state : std::uint8_t { free, to_run, running, to_transfer, transferring, over };
  struct slot {
    block::media_request request{};
    block::media_tag tag = 0;
    block::media_status status = block::media_status::good;
    state is = state::free;
  };

  [[nodiscard]] std::size_t stored(const slot& s) const noexcept {
    return int_cast<std::size_t>(s.request.blocks * stored_bytes());
  }
  static void end(slot& s, block::media_status status) noexcept {
    s.status = status;
    s.is = state::over;
  }

  // Gives the slot's transfer to the sink; stays to_transfer where the sink is busy.
  void transfer(std::size_t at) noexcept {
    slot& s = slots_[at];
    const auto answer = [&] {
      switch (s.request.operation) {
        case block::media_operation::flush:
          return sink_->flush(at);
        case block::media_operation::read:
          return sink_->read(at, s.request.lba, stored(s));
        default:
          return sink_->write(at, s.request.lba, stored(s));
      }
    }();
    if (answer.is_busy()) return;
    s.is = state::transferring;
    if (answer.is_done()) transferred(at, answer.status());
  }
  void transferred(std::size_t at, block::media_status status) noexcept {
    slot& s = slots_[at];
    const bool more =
        s.request.operation == block::media_operation::read && status == block::media_status::good;
    if (more) {
      s.is = state::to_run;
      return;
    }
    // A write that must be stable is followed by a flush of the sink.
    const bool stable = s.request.fua && status == block::media_status::good;
    if (stable) {
      s.request.operation = block::media_operation::flush;
      s.request.fua = false;
      s.is = state::to_transfer;
      return;
    }
    end(s, status);
  }

  // Appends the steps of every layer for a request; each layer as if it were alone.
  [[nodiscard]] result<> compose(const slot& s, std::span<std::byte> wire) noexcept {
    const std::size_t plain = int_cast<std::size_t>(s.request.blocks) * block_;
    std::array<domain_segment, Segments> host;
    std::size_t count = 0;
    for (const block::media_segment& m : s.request.segments) {
      host[count++] = {m.address, m.bytes, local_domain};
    }
    const std::span<const domain_segment> memory{host.data(), count};
    const domain_segment buffer = local_segment(wire.first(stored(s)));
    accel::protection p = layers_.protection;
    p.reference_tag = s.request.lba;
    const accel::cipher c{.first_unit = s.request.lba, .unit_bytes = block_, .key = layers_.key};
    steps_.clear();
    const auto a = steps_.scratch(plain);
    const auto b = steps_.scratch(plain);
    const auto d = steps_.scratch(stored(s));
    if (!a || !b || !d) return failure(errc::exhausted, "no scratch buffer is left");
    const bool reads = s.request.operation == block::media_operation::read;
    const bool zeros = s.request.operation == block::media_operation::write_zeroes;
    result<accel::step_id> last = accel::step_id{};
    const auto ok = [&last](result<accel::step_id> r) noexcept {
      last = r;
      return r.has_value();
    };
    domain_segment held = *a;
    if (reads) {
      // Appended from the host's side, and turned round.
      if (!ok(steps_.copy(memory, held))) return last.error();
      if (layers_.encrypts) {
        if (!ok(steps_.decrypt(held, *b, c))) return last.error();
        held = *b;
      }
      if (layers_.protects) {
        if (!ok(steps_.dif_strip(held, *d, p))) return last.error();
        held = *d;
      }
      if (!ok(steps_.copy(held, buffer))) return last.error();
      steps_.reverse();
      return {};
    }
    if (!ok(zeros ? steps_.zero(held) : steps_.copy(held, memory))) return last.error();
    if (layers_.encrypts) {
      if (!ok(steps_.encrypt(*b, held, c))) return last.error();
      held = *b;
    }
    if (layers_.protects) {
      if (!ok(steps_.dif_insert(*d, held, p))) return last.error();
      held = *d;
    }
    if (!ok(steps_.copy(buffer, held))) return last.error();
    return {};
  }
  [[nodiscard]] std::uint64_t moving() const noexcept {
    std::uint64_t n = 0;
    for (std::size_t i = 0; i != steps_.size(); ++i) n += steps_[i].destination.count != 0 ? 1 : 0;
    return n;
  }

  void begin(std::size_t at) noexcept {
    slot& s = slots_[at];
    if (!compose(s, sink_->buffer(at))) return end(s, block::media_status::not_supported);
    const std::uint64_t composed = moving();
    const target where = accel::limited_to({}, engine_->capabilities());
    const auto planned = accel::plan(steps_, where);
    if (!planned) return end(s, block::media_status::not_supported);
    run_.emplace(steps_, *engine_, domains_);
    if (!run_->start(pool_, planned->scratch_bytes)) {
      run_.reset();
      return end(s, block::media_status::not_supported);
    }
    ++movements_.requests;
    movements_.composed += composed;
    movements_.taken += moving();
    movements_.bytes_composed += planned->bytes_before;
    movements_.bytes_taken += planned->bytes_after;
    s.is = state::running;
    running_ = at;
  }
  void finish(std::size_t at) noexcept {
    slot& s = slots_[at];
    const accel::outcome o = run_->result_of_run();
    run_.reset();
    running_ = Slots;
    const bool reads = s.request.operation == block::media_operation::read;
    if (!o.good) {
      if (o.status != accel::step_status::engine_error) ++movements_.failed_checks;
      return end(s, reads ? block::media_status::read_failed : block::media_status::write_failed);
    }
    if (reads) return end(s, block::media_status::good);
    s.is = state::to_transfer;
  }

  using target = accel::target;

  Sink* sink_;
  Engine* engine_;
  std::span<std::byte> pool_;
  std::uint32_t block_;
  ipu_layers layers_;
  ipu_movements movements_{};
  std::array<slot, Slots> slots_{};
  std::size_t used_ = 0;
  std::size_t running_ = Slots;  // the slot whose sequence runs
  sequence steps_{};
  domains domains_{};
  std::optional<execution> run_{};
};

}  // namespace phasebit::systems
