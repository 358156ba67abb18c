// SPDX-License-Identifier: BSL-1.0
// Blocks on their way from a host to a wire, as firmware of an infrastructure processor sees them: encrypted
// and protected by layers that are independent of each other, in one movement. Prints what the layers asked for
// and what was done, with fusion and without. Everything is simulated in one process.
// Usage: ipu_target
#include <phasebit/accel/software_engine.hpp>
#include <phasebit/systems/ipu/stream_sink.hpp>
#include <phasebit/systems/ipu/stream_store.hpp>
#include <phasebit/systems/ipu_target.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <memory>
#include <vector>

#include <fmt/core.h>

using namespace phasebit;

namespace {

// One direction of a connection within the process.
using pipe = std::deque<std::byte>;
struct loopback {
  pipe* out;
  pipe* in;
  result<std::size_t> send(std::span<const std::byte> from) noexcept {
    out->insert(out->end(), from.begin(), from.end());
    return from.size();
  }
  result<std::size_t> receive(std::span<std::byte> to) noexcept {
    std::size_t n = 0;
    for (; n != to.size() && !in->empty(); ++n) {
      to[n] = in->front();
      in->pop_front();
    }
    return n;
  }
};

// The same engine with or without its table of fusions.
class chosen_engine {
 public:
  chosen_engine(accel::software_engine<>& inner, bool fuses) : inner_(&inner), fuses_(fuses) {}
  [[nodiscard]] accel::engine_capabilities capabilities() const noexcept {
    accel::engine_capabilities c = inner_->capabilities();
    if (!fuses_) c.fusions = {};
    return c;
  }
  result<accel::engine_progress> submit(const accel::work& w, std::uint64_t tag,
                                        accel::work_result& out) noexcept {
    return inner_->submit(w, tag, out);
  }
  std::size_t poll(accel::engine_sink sink) noexcept { return inner_->poll(sink); }

 private:
  accel::software_engine<>* inner_;
  bool fuses_;
};

bool run(bool fuses) {
  constexpr std::uint64_t blocks = 1024;
  std::array<std::uint8_t, 64> raw{};
  for (std::size_t k = 0; k != raw.size(); ++k) raw[k] = static_cast<std::uint8_t>(k);
  const std::array keys{*accel::xts_key::make(raw)};
  const auto software = std::make_unique<accel::software_engine<>>(accel::plain_cipher<>{keys});
  chosen_engine engine{*software, fuses};
  pipe there;
  pipe back;
  loopback near{&there, &back};
  loopback far{&back, &there};
  std::vector<std::byte> disk(blocks * 520);
  std::vector<std::byte> buffer(256 * 520);
  std::vector<std::byte> buffers(8 * 256 * 520);
  std::vector<std::byte> pool(4 * 256 * 520);
  systems::stream_sink<loopback> sink{near, buffers, blocks};
  systems::stream_store<loopback> store{far, disk, buffer, 520};
  using pipeline = systems::ipu_pipeline<systems::stream_sink<loopback>, chosen_engine>;
  if (const auto ok = pipeline::check(sink, 512, {}); !ok) return false;
  const auto media = std::make_unique<pipeline>(sink, engine, pool, 512, systems::ipu_layers{});

  std::vector<std::byte> data(128 * 512, std::byte{42});
  std::vector<std::byte> again(data.size());
  const auto transfer = [&](block::media_operation op, std::vector<std::byte>& memory) {
    const std::array one{block::media_segment::of(memory)};
    const auto answer =
        media->submit({.operation = op, .lba = 8, .blocks = 128, .segments = one}, 1);
    bool good = false;
    for (int turn = 0; turn != 100 && answer.is_pending() && !media->drained(); ++turn) {
      media->poll([&](block::media_tag, block::media_status s) noexcept {
        good = s == block::media_status::good;
      });
      if (!store.poll()) return false;
    }
    return good;
  };
  if (!transfer(block::media_operation::write, data)) return false;
  if (!transfer(block::media_operation::read, again)) return false;
  const systems::ipu_movements& m = media->movements();
  fmt::print("{:<16} {:>10} {:>10} {:>14} {:>14}\n", fuses ? "with fusion" : "without fusion",
             m.composed, m.taken, m.bytes_composed, m.bytes_taken);
  return again == data && disk[8 * 520] != data[0];
}

}  // namespace

int main() {
  fmt::print("64 KiB written and read back: AES-XTS, T10 DIF, a byte stream (simulated)\n");
  fmt::print("{:<16} {:>10} {:>10} {:>14} {:>14}\n", "", "composed", "taken", "bytes composed",
             "bytes taken");
  const bool good = run(true) && run(false);
  if (!good) fmt::print(stderr, "the bytes that were read are not those that were written\n");
  return good ? 0 : 1;
}
