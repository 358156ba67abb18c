// SPDX-License-Identifier: BSL-1.0
// QEMU's educational device, driven by registers that are described in support/edu_device.hpp: what it
// takes to bring a device of one's own to life, on three buses with one source.
#include "support/edu_device.hpp"
#include "support/opened.hpp"
#include "support/option_kinds.hpp"
#include "support/pattern.hpp"
#include "support/run_main.hpp"
#include "support/units.hpp"

#include <phasebit/backend/mmio_linux.hpp>
#include <phasebit/backend/qtest.hpp>
#include <phasebit/backend/vfio.hpp>
#include <phasebit/memory/dma_buffer.hpp>

#include <chrono>
#include <cstring>
#include <string>
#include <vector>

using namespace phasebit;
using namespace example;

namespace {

struct edu_options {
  std::string backend = "qtest";
  std::string device;
  std::uint64_t dma_mask = 0x0fff'ffff;
  std::uint32_t number = 12;
  std::uint32_t rounds = 2;
  bool dma = true;
};

constexpr std::uint64_t patience = 20'000 * nanoseconds_per_ms;

// One device, by whichever backend.
template <class Backend>
class tour {
 public:
  tour(Backend& function, edu::device<typename Backend::bar_type> device, const edu_options& o)
      : function_(function), device_(device), o_(o) {}

  [[nodiscard]] result<> run(const std::string& about) {
    const auto version = device_.version();
    fmt::print("edu {}.{}, {}\n", version[edu::identification::major_number],
               version[edu::identification::minor_number], about);
    if (const auto alive = device_.check_liveness(); !alive) return alive;
    fmt::print("liveness    every word came back as its inverse\n");
    if (const auto computed = compute(); !computed) return computed;
    if (const auto moved = o_.dma ? move() : result<>{}; !moved) return moved;
    return interrupt();
  }

 private:
  [[nodiscard]] result<> compute() {
    std::uint32_t expected = 1;
    for (std::uint32_t n = 0; n <= o_.number; ++n) {
      if (n != 0) expected *= n;
      if (const auto begun = device_.start_factorial(n); !begun) return begun;
      const auto got = device_.finish_factorial(function_.clock(), patience);
      if (!got) return got.error();
      if (*got != expected) {
        return failure(errc::io, "the factorial is wrong; its value", *got).at(n);
      }
    }
    fmt::print("factorial   {}! = {}{}, and all before it\n", o_.number, expected,
               o_.number > 12 ? " modulo 2^32" : "");
    return {};
  }

  // There and back by DMA, with other content each time; what lies beside the target stays.
  [[nodiscard]] result<> move() {
    using clock = std::chrono::steady_clock;
    constexpr std::size_t half = 4096;
    auto memory = dma_buffer<Backend>::allocate(function_, 2 * half, half);
    if (!memory) return memory.error();
    const auto from = (*memory)->subregion(0, edu::usable_bytes);
    const auto to = (*memory)->subregion(half, edu::usable_bytes);
    const pattern content{o_.number};
    std::vector<std::byte> expected(2 * half);
    const auto begun = clock::now();
    for (std::uint32_t round = 0; round != o_.rounds; ++round) {
      content.fill(expected, 0, round);
      std::memcpy((*memory)->data(), expected.data(), expected.size());
      std::memcpy(expected.data() + half, expected.data(), to.size());
      if (const auto posted = device_.start_read(from, 0); !posted) return posted;
      if (const auto read = device_.finish_dma(function_.clock(), patience); !read) return read;
      if (const auto posted = device_.start_write(to, 0); !posted) return posted;
      if (const auto wrote = device_.finish_dma(function_.clock(), patience); !wrote) return wrote;
      for (std::size_t i = 0; i != expected.size(); ++i) {
        if ((*memory)->bytes[i] == expected[i]) continue;
        return failure(errc::io, "DMA there and back is not what was sent; byte", i).at(round);
      }
    }
    const std::chrono::duration<double, std::nano> took = clock::now() - begun;
    fmt::print(
        "DMA         {} x {} bytes to the device and back at {:#x}: each byte is right, {} "
        "a transfer\n",
        o_.rounds, from.size(), from.bus.value(), time_text(took.count() / o_.rounds / 2));
    return {};
  }

  // Its cause is a register wherever; its message only where the backend can receive one.
  [[nodiscard]] result<> interrupt() {
    const bool receives = function_.interrupt_vectors() != 0;
    if (receives) {
      if (const auto on = function_.enable_interrupts(1); !on) return on;
    }
    const auto wait = [&](edu::interrupt_status expected) -> result<> {
      if (receives && !function_.wait_interrupt(0, patience)) {
        return failure(errc::timed_out, "the interrupt did not come");
      }
      const bool shown = poll_until(function_.clock(), patience,
                                    [&]() noexcept { return device_.pending() == expected; });
      const auto cause = device_.pending();
      device_.acknowledge(cause);
      if (!shown) return failure(errc::io, "the interrupt has another cause", cause.raw);
      return {};
    };
    if (const auto begun = device_.start_factorial(5, edu::notice::interrupt); !begun) return begun;
    const auto first =
        wait(edu::interrupt_status{}.with(edu::interrupt_status::factorial_done, true));
    if (!first) return first;
    device_.registers().write(edu::interrupt_raise{0x1000});
    if (const auto second = wait(edu::interrupt_status{0x1000}); !second) return second;
    if (receives) {
      if (const auto off = function_.disable_interrupts(); !off) return off;
    }
    fmt::print("interrupts  {}\n", receives ? "two came, each with its cause"
                                            : "not received here; two causes shown and taken back");
    return {};
  }

  Backend& function_;
  edu::device<typename Backend::bar_type> device_;
  const edu_options& o_;
};

template <class Backend>
[[nodiscard]] result<> drive(Backend& function, const edu_options& o, const std::string& about) {
  auto bar = function.map_bar(0);
  if (!bar) return bar.error();
  auto device = edu::device<typename Backend::bar_type>::attach(*bar, o.dma_mask);
  if (!device) return device.error().of(o.device);
  return tour<Backend>{function, *device, o}.run(about);
}

[[nodiscard]] result<> run_on_qtest(const edu_options& o) {
  namespace qtest = backend::qtest;
  auto machine = qtest::machine::start({.devices = {"edu,dma_mask=" + std::to_string(o.dma_mask)}});
  if (!machine) return machine.error();
  auto function = machine->open_device(edu::vendor_id, edu::device_id);
  if (!function) return function.error();
  return drive(*function, o, "QEMU's device model over qtest");
}

// Whether it is one, before its registers are touched.
template <class Function>
[[nodiscard]] result<> check_ids(Function& function, const std::string& name) {
  const std::uint32_t ids = function.config().read32(0);
  if (ids == (std::uint32_t{edu::device_id} << 16 | edu::vendor_id)) return {};
  return failure(errc::not_supported, "is no edu device; its device and vendor", ids).of(name);
}

[[nodiscard]] result<> run_on_vfio(const edu_options& o) {
  auto function = backend::vfio::function::open(o.device);
  if (!function) return function.error();
  if (const auto right = check_ids(*function, o.device); !right) return right;
  return drive(*function, o, "a PCI function through vfio");
}

[[nodiscard]] result<> run_on_mmio(const edu_options& o) {
  auto function = backend::mmio_linux::function::open(o.device);
  if (!function) return function.error();
  if (const auto right = check_ids(*function, o.device); !right) return right;
  return drive(*function, o, "a BAR mapped from /sys");
}

[[nodiscard]] result<> run(const edu_options& o) {
  if (o.backend == "qtest") return run_on_qtest(o);
  if (o.device.empty()) {
    return failure(errc::invalid_argument,
                   "this backend requires a function: --device 0000:00:05.0");
  }
  return o.backend == "mmio" ? run_on_mmio(o) : run_on_vfio(o);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Drives QEMU's educational device", "edu"};
  edu_options options;
  add_choice(app, "--backend", options.backend, "How it is reached", {"qtest", "mmio", "vfio"});
  app.add_option("--device", options.device, "Its PCI address, such as 0000:00:05.0")
      ->type_name("BDF");
  app.add_option("--dma-mask", options.dma_mask, "Value of dma_mask= of QEMU's -device edu")
      ->check(CLI::Range(std::uint64_t{0xfff}, std::uint64_t{0xffff'ffff}).description(""))
      ->type_name("MASK")
      ->default_str("0xfffffff");
  app.add_option("--number", options.number, "Compute factorials up to this one's")
      ->check(CLI::Range(0, 1000).description(""))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "DMA transfers there and back")
      ->check(CLI::Range(1, 1000).description(""))
      ->type_name("N")
      ->capture_default_str();
  app.add_flag("!--no-dma", options.dma, "Registers only");
  return run_main(app, argc, argv, [&] { return run(options); });
}
