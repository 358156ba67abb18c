// SPDX-License-Identifier: BSL-1.0
// A storage engine in an FPGA, driven by the library's rings: registers, doorbells and DRAM behind
// one mapped BAR. A process simulates the FPGA: `fpga_queue engine` is the device's side of the
// rings, `fpga_queue host` the driver's. They share a file; between them may be a QEMU whose guest
// sees the file as a PCI device.
#include "support/fpga_job.hpp"
#include "support/fpga_memory.hpp"
#include "support/option_kinds.hpp"
#include "support/run_main.hpp"
#include "support/stop_signal.hpp"

#include <phasebit/backend/mmio_linux.hpp>
#include <phasebit/backend/qtest.hpp>
#include <phasebit/backend/vfio.hpp>

#include <chrono>
#include <ctime>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <unistd.h>

using namespace phasebit;
using namespace example;
namespace mmio = phasebit::backend::mmio_linux;

namespace {

struct engine_options {
  std::string memory;
  std::uint64_t bytes = std::uint64_t{16} << 20;
  double seconds = 0;
  std::string fault = "none";
  std::uint32_t after = 0;
};

struct host_options {
  std::string backend = "memory";
  std::string memory;
  std::string device;
  unsigned bar = 2;
  std::uint64_t bar_bytes = 0;
  std::uint64_t block_bytes = 4096;
  bool show = false;
  bool json = false;
  fpga::job work;
};

const std::map<std::string, fpga::engine_fault>& faults() {
  using enum fpga::engine_fault;
  static const std::map<std::string, fpga::engine_fault> all{{"none", none},
                                                             {"wrong-design", wrong_design},
                                                             {"wrong-version", wrong_version},
                                                             {"not-ready", not_ready},
                                                             {"silent", silent},
                                                             {"unknown-id", unknown_id},
                                                             {"phase", phase},
                                                             {"stops", stops},
                                                             {"gone", gone}};
  return all;
}

std::vector<std::string> fault_words() {
  std::vector<std::string> words;
  for (const auto& [word, fault] : faults()) words.push_back(word);
  return words;
}

[[nodiscard]] result<> run_engine(const engine_options& o) {
  auto memory = fpga::shared_memory::create(o.memory, o.bytes);
  if (!memory) return memory.error();
  handle_stop_signals(second_signal::ignored);
  fpga::engine<> engine{memory->bytes(), faults().at(o.fault), o.after};
  fmt::print("engine: {} with {} of DRAM, played by process {}\n", o.memory,
             size_text(memory->bytes().size() - fpga::register_bytes), ::getpid());
  std::fflush(stdout);

  using clock = std::chrono::steady_clock;
  const auto begun = clock::now();
  unsigned idle = 0;
  while (!stop_requested() && !engine.stopped()) {
    idle = engine.poll() == 0 ? idle + 1 : 0;
    if (idle != 0) posix::steady_clock::relax();
    // No work: sleep, because hardware would not use the host's processor either.
    constexpr ::timespec pause{0, 100'000};
    if (idle > 10'000) ::nanosleep(&pause, nullptr);
    if (o.seconds != 0 && (idle & 0xff) == 0 &&
        clock::now() - begun > std::chrono::duration<double>{o.seconds}) {
      break;
    }
  }
  fmt::print("engine: {} commands\n", engine.commands());
  return {};
}

template <class Device>
void print_engine(Device& device, const std::string& about) {
  const auto version = device.registers().template read<fpga::version>();
  const auto most = device.registers().template read<fpga::capability>();
  fmt::print("{}; the FPGA is played by a process\n", about);
  fmt::print("block engine {}.{}: queues of up to {}, commands of up to {}, {} of DRAM at {:#x}\n",
             version[fpga::version::major_number], version[fpga::version::minor_number],
             1U << most[fpga::capability::log2_entries],
             size_text(1U << most[fpga::capability::log2_bytes]),
             size_text(device.memory().whole().size()), device.memory().whole().bus.value());
}

template <class Device>
void print_text(Device& device, const fpga::workload<Device>& work, const host_options& o,
                const std::string& about) {
  const auto& l = work.latency();
  print_engine(device, about);
  fmt::print("{} of {}, {} in flight, {:.2f} s\n\n", o.work.what, size_text(o.work.bytes),
             o.work.depth, work.seconds());
  const double rate = static_cast<double>(work.done()) / work.seconds();
  fmt::print("{:<8} {:>12} = {:>7} IOPS, {}\n", "commands", work.done(), count_text(rate),
             rate_text(rate * o.work.bytes));
  fmt::print("latency  p50 {}  p90 {}  p99 {}  p99.9 {}  max {}\n", time_text(l.percentile(50)),
             time_text(l.percentile(90)), time_text(l.percentile(99)),
             time_text(l.percentile(99.9)), time_text(l.most()));
  fmt::print("{}", l.text());
  if (o.work.verify) {
    fmt::print("verified {} commands: each byte and each checksum is as it has to be\n",
               work.verified());
  }
}

template <class Device>
void print_json(const fpga::workload<Device>& work, const host_options& o,
                const std::string& about) {
  const auto& l = work.latency();
  const double rate = static_cast<double>(work.done()) / work.seconds();
  nlohmann::ordered_json out;
  out["backend"] = o.backend;
  out["about"] = about + "; the FPGA is played by a process";
  out["op"] = o.work.what;
  out["block_bytes"] = o.work.bytes;
  out["queue_depth"] = o.work.depth;
  out["seconds"] = work.seconds();
  out["commands"] = work.done();
  out["iops"] = rate;
  out["bytes_per_second"] = rate * o.work.bytes;
  out["latency_ns"] = {{"min", l.least()},        {"mean", l.mean()},
                       {"p50", l.percentile(50)}, {"p90", l.percentile(90)},
                       {"p99", l.percentile(99)}, {"p99.9", l.percentile(99.9)},
                       {"max", l.most()}};
  out["verified"] = o.work.verify ? nlohmann::ordered_json(work.verified()) : nullptr;
  fmt::print("{}\n", out.dump(2));
}

// `mapping` is the BAR as memory of this process.
template <class Bar>
[[nodiscard]] result<> drive(Bar bar, std::span<std::byte> mapping, const host_options& o,
                             const std::string& about) {
  using device_type = fpga::device<Bar>;
  const auto patience = static_cast<std::uint64_t>(o.work.timeout * 1e9);
  const auto device = std::make_unique<device_type>(bar, mapping, patience);
  if (const auto there = device->attach(); !there) return there;
  if (o.show) {
    print_engine(*device, about);
    return {};
  }
  if (o.work.bytes > device->max_bytes()) {
    return failure(errc::out_of_range,
                   "--bs is more than the engine does in one command; its limit",
                   device->max_bytes());
  }
  if (const auto ready = device->start(o.work.depth + 1); !ready) return ready;
  fpga::workload<device_type> work{*device, o.work};
  if (const auto ended = work.run(); !ended) return ended;
  if (o.json) {
    print_json(work, o, about);
  } else {
    print_text(*device, work, o, about);
  }
  return {};
}

// A file: that of the process that plays the FPGA, or the one in /dev of an FPGA's driver.
[[nodiscard]] result<> run_on_memory(const host_options& o) {
  const auto memory = mmio::map_file(o.memory, {.bytes = o.bar_bytes});
  if (!memory) return memory.error();
  return drive(memory->bar(), memory->bytes(), o, "a BAR that is a mapped file");
}

// Registers and doorbells are those of a PCI device inside of QEMU, which has the file for its BAR.
[[nodiscard]] result<> run_on_qtest(const host_options& o) {
  namespace qtest = backend::qtest;
  const auto memory = mmio::map_file(o.memory);
  if (!memory) return memory.error();
  auto machine = qtest::machine::start(
      {.devices = {"ivshmem-plain,memdev=fpga"},
       .arguments = {"-object", "memory-backend-file,id=fpga,share=on,size=" +
                                    std::to_string(memory->bytes().size()) +
                                    ",mem-path=" + qtest::detail::escaped(o.memory)}});
  if (!machine) return machine.error();
  auto function = machine->open_device(0x1af4, 0x1110);
  if (!function) return function.error();
  const auto bar = function->map_bar(2);
  if (!bar) return bar.error();
  return drive(*bar, memory->bytes(), o, "BAR 2 of QEMU's ivshmem-plain over qtest");
}

// Registers and DRAM are those of a PCI device, mapped through the kernel's BAR files.
[[nodiscard]] result<> run_on_mmio(const host_options& o) {
  // The FPGA reads and writes its own DRAM, so no memory of the host's is taken for DMA.
  auto function = mmio::function::open(o.device, {.dma = mmio::no_dma{}});
  if (!function) return function.error();
  const auto mapping = function->map(o.bar, mmio::bar_view::registers);
  if (!mapping) return mapping.error();
  return drive(mapping->bar(), mapping->bytes(), o,
               "BAR " + std::to_string(o.bar) + " of " + o.device + ", mapped from /sys");
}

[[nodiscard]] result<> run_on_vfio(const host_options& o) {
  auto function = backend::vfio::function::open(o.device);
  if (!function) return function.error();
  const auto bar = function->map_bar(o.bar);
  if (!bar) return bar.error();
  const auto mapping = bar->memory(0, bar->size_bytes());
  if (!mapping) return mapping.error();
  return drive(*bar, *mapping, o,
               "BAR " + std::to_string(o.bar) + " of " + o.device + ", mapped by vfio");
}

[[nodiscard]] result<> run_host(host_options& o) {
  o.work.bytes = static_cast<std::uint32_t>(o.block_bytes);
  if (o.block_bytes % pattern::sector != 0) {
    return failure(errc::misaligned, "--bs is a multiple of 512", o.block_bytes);
  }
  if (o.backend == "mmio" || o.backend == "vfio") {
    if (o.device.empty()) {
      return failure(errc::invalid_argument,
                     "this backend requires a function: --device 0000:00:04.0");
    }
    return o.backend == "mmio" ? run_on_mmio(o) : run_on_vfio(o);
  }
  if (o.memory.empty()) {
    return failure(errc::invalid_argument, "the BAR needs a file: --memory FILE, the engine's");
  }
  return o.backend == "qtest" ? run_on_qtest(o) : run_on_memory(o);
}

void add_engine_options(CLI::App& app, engine_options& o) {
  app.add_option("--memory", o.memory, "The file that is the BAR; made where there is none")
      ->type_name("FILE")
      ->required();
  add_size_option(app, "--size", o.bytes, "Of a file that is made", std::uint64_t{1} << 16,
                  std::uint64_t{1} << 36)
      ->default_str("16M");
  app.add_option("--time", o.seconds, "Seconds to play; 0: until it is ended by a signal")
      ->check(CLI::Range(0.0, 86'400.0).description(""))
      ->type_name("S")
      ->capture_default_str();
  add_choice(app, "--fault", o.fault, "Fault to inject", fault_words());
  app.add_option("--after", o.after, "After so many commands that went well")
      ->type_name("N")
      ->capture_default_str();
}

void add_host_options(CLI::App& app, host_options& o) {
  add_choice(app, "--backend", o.backend, "How the BAR is reached",
             {"memory", "qtest", "mmio", "vfio"});
  app.add_option("--memory", o.memory, "memory, qtest: the file that is the BAR")
      ->type_name("FILE");
  add_size_option(app, "--bar-size", o.bar_bytes, "memory: of a device file, which has no length",
                  4096, std::uint64_t{1} << 40);
  app.add_option("--device", o.device, "mmio, vfio: its PCI address, such as 0000:00:04.0")
      ->type_name("BDF");
  app.add_option("--bar", o.bar, "mmio, vfio: which of its BARs")
      ->check(CLI::Range(0, 5).description(""))
      ->type_name("N")
      ->capture_default_str();
  app.add_flag("--show", o.show, "Only print which engine is there");
  add_choice(app, "--op", o.work.what, "Operation; mixed does all, one after another",
             {"fill", "copy", "checksum", "mixed"});
  add_size_option(app, "--bs", o.block_bytes, "Bytes of each command, such as 512, 4k, 128k", 512,
                  std::uint64_t{32} << 20)
      ->default_str("4k");
  app.add_option("--qd", o.work.depth, "Commands in flight")
      ->check(CLI::Range(1, 1023).description(""))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--time", o.work.seconds, "Seconds to measure")
      ->check(CLI::Range(0.01, 86'400.0).description(""))
      ->type_name("S")
      ->capture_default_str();
  app.add_option("--count", o.work.commands, "Stop after so many commands")->type_name("N");
  app.add_flag("--verify", o.work.verify, "Compare all that was written, check each checksum");
  app.add_option("--seed", o.work.seed, "Of the content")->type_name("N")->capture_default_str();
  app.add_option("--timeout", o.work.timeout, "Seconds after which a command is given up")
      ->check(CLI::Range(0.2, 3'600.0).description(""))
      ->type_name("S")
      ->capture_default_str();
  app.add_flag("--json", o.json, "Print the result as JSON");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"A block engine behind a BAR, and its driver", "fpga_queue"};
  engine_options engine;
  host_options host;
  auto* const plays = app.add_subcommand("engine", "Plays the FPGA");
  auto* const drives = app.add_subcommand("host", "Drives it, and prints its speed");
  add_engine_options(*plays, engine);
  add_host_options(*drives, host);
  app.require_subcommand(1);
  return run_main(app, argc, argv, [&]() -> result<> {
    return plays->parsed() ? run_engine(engine) : run_host(host);
  });
}
