// SPDX-License-Identifier: BSL-1.0
// Keeps an NVMe disk busy and prints its speed and, with --verify, whether the data was right.
#include "support/open_backend.hpp"
#include "support/progress.hpp"
#include "support/run_main.hpp"
#include "support/stop_signal.hpp"
#include "support/workload.hpp"

#include <phasebit/nvme/driver/controller.hpp>

#include <algorithm>
#include <ctime>
#include <memory>
#include <thread>

#include <nlohmann/json.hpp>

using namespace phasebit;
using namespace example;

namespace {

constexpr std::uint64_t most_dma_bytes = std::uint64_t{1} << 30;
constexpr std::uint64_t most_extents = std::uint64_t{1} << 28;
constexpr unsigned most_depth = 1023;

struct perf_options {
  backend_options disk;
  std::string rw = "randread";
  std::uint64_t block_bytes = 4096;
  std::uint16_t queues = 1;
  std::uint32_t nsid = 1;
  std::uint64_t size = 0;
  bool overwrite = false;
  bool json = false;
  job work;
};

class stop_watch {
 public:
  [[nodiscard]] double seconds() const noexcept {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count();
  }

 private:
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

template <class Backend>
class measurement {
  using controller = nvme::driver::controller<Backend>;
  using workload_type = workload<controller>;
  static_assert(most_depth < workload_type::max_depth);

 public:
  measurement(const opened<Backend>& disk, const perf_options& o) : disk_(disk), o_(o) {}

  [[nodiscard]] result<> run() {
    auto attached = controller::attach(
        disk_.function, {.io_queues = o_.queues,
                         .max_transfer = std::max(o_.work.bytes, std::uint32_t{128} << 10)});
    if (!attached) return attached.error();
    host_ = &*attached;
    if (const auto ready = prepare(); !ready) return ready;
    const auto measured = run_phases();
    const bool stopped = !measured && measured.error().code == errc::cancelled;
    if (!measured && !stopped) {
      // The device may still write to what it was given: it is stopped before anything is released.
      attached->detach();
      return measured;
    }
    if (const auto closed = close(); !closed) return closed;
    if (stopped && seconds_ == 0) return measured;  // before anything was measured
    o_.json ? print_json() : print_text();
    return measured;
  }

 private:
  [[nodiscard]] result<> prepare() {
    const auto ns = host_->identify_namespace(o_.nsid);
    if (!ns) return ns.error();
    ns_ = *ns;
    if (const auto sound = check(); !sound) return sound;
    const std::uint64_t bytes = o_.work.bytes;
    std::uint64_t size = std::min(o_.size == 0 ? ns_.bytes() : o_.size, ns_.bytes());
    if (o_.work.verify && o_.size == 0) size = std::min(size, std::uint64_t{1} << 30);
    const std::uint64_t each = size / bytes / o_.queues;
    if (each == 0 || (o_.work.verify && each <= o_.work.depth)) {
      return failure(errc::out_of_range,
                     "the disk is too small for so many queues, so deep, of such blocks; its bytes",
                     size);
    }
    if (o_.work.verify && each * o_.queues > most_extents) {
      return failure(errc::out_of_range, "--verify remembers 2^28 blocks: give it a smaller --size",
                     size);
    }
    for (std::uint16_t q = 0; q != o_.queues; ++q) {
      auto buffers = disk_.function.allocate(std::size_t{o_.work.depth} * bytes, 4096);
      if (!buffers) return buffers.error();
      auto queue = host_->create_queue_pair(
          {.depth = o_.work.depth + 1, .max_transfer = o_.work.bytes, .nsid = o_.nsid},
          nvme::driver::tokens<std::uint32_t, workload_type::max_depth>);
      if (!queue) return queue.error();
      workloads_.push_back(std::make_unique<workload_type>(std::move(*queue), o_.work, ns_,
                                                           *buffers, territory{q * each, each}));
    }
    return {};
  }

  [[nodiscard]] result<> check() const {
    const std::uint32_t bytes = o_.work.bytes;
    if (host_->granted_queues() < o_.queues) {
      return failure(errc::exhausted, "the controller grants fewer I/O queues than --queues",
                     host_->granted_queues());
    }
    if (ns_.metadata_bytes != 0) {
      return failure(errc::not_supported, "the namespace has metadata; its bytes of each block",
                     ns_.metadata_bytes);
    }
    if (bytes % ns_.block_bytes != 0) {
      return failure(errc::misaligned, "--bs is no multiple of the namespace's block size",
                     ns_.block_bytes);
    }
    if (bytes > host_->max_transfer()) {
      return failure(errc::out_of_range,
                     "--bs is more than the controller moves in one command (MDTS); its limit",
                     host_->max_transfer());
    }
    if (o_.work.depth >= host_->capabilities().max_queue_entries()) {
      return failure(errc::out_of_range, "--qd is more than a queue of this controller holds",
                     host_->capabilities().max_queue_entries() - 1);
    }
    if (o_.work.verify && !o_.work.writes && !disk_.scratch && !o_.overwrite) {
      return failure(errc::invalid_argument,
                     "--verify of reads first writes what is to be read, and what the disk holds "
                     "is lost: add --overwrite");
    }
    return {};
  }

  // `cancelled` where a signal has stopped it before all was measured and verified; nothing is in flight then. A
  // measurement that a signal has ended is a result like any other.
  [[nodiscard]] result<> run_phases() {
    if (o_.work.verify && o_.work.reads) {
      if (const auto filled = drive(phase::fill, "writing the pattern"); !filled) return filled;
      if (stop_requested()) return stopped_by_signal("nothing was measured");
    }
    const stop_watch watch;
    const double cpu = cpu_seconds();
    if (const auto measured = drive(phase::measure, o_.rw); !measured) return measured;
    cpu_seconds_ = cpu_seconds() - cpu;
    whole_seconds_ = watch.seconds();
    seconds_ = std::max(whole_seconds_ - o_.work.ramp, 1e-9);
    if (o_.work.verify && o_.work.writes) {
      if (const auto right = drive(phase::check, "reading all back"); !right) return right;
      if (stop_requested()) return stopped_by_signal("what was written was not read back");
    }
    return {};
  }

  // Runs every workload through one phase, each in a thread of its own where the backend allows it.
  [[nodiscard]] result<> drive(phase p, std::string_view what) {
    stop_ = false;
    for (auto& w : workloads_) w->begin(p);
    const stop_watch watch;
    std::vector<std::jthread> threads;
    std::atomic<std::size_t> running = workloads_.size();
    if (disk_.threads) {
      for (auto& w : workloads_) {
        threads.emplace_back([this, &running, work = w.get()] {
          while (!stop_ && work->turn()) {
            if (work->idle()) std::this_thread::yield();
          }
          if (work->failed()) stop_ = true;
          --running;
        });
      }
    }
    result<> well;
    for (double looked = 0; running != 0 && !stop_;) {
      if (disk_.threads) {
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
      } else {
        running = take_turns();
      }
      for (const auto& w : workloads_) stop_ = stop_ || (!disk_.threads && w->failed());
      if (stop_requested()) {
        for (const auto& w : workloads_) w->finish_early();
      }
      if (const double now = watch.seconds(); now - looked >= 0.1) {
        looked = now;
        well = host_->check();
        if (!well) stop_ = true;
      }
      progress_.show([&] { return progress(what, watch.seconds()); });
    }
    threads.clear();
    progress_.clear();
    if (!well) return well;
    for (const auto& w : workloads_) {
      if (!w->failed()) continue;
      // A device that is gone, or has failed as a whole, is a better reason than what came of it.
      const auto now = host_->check();
      return now ? result<>{*w->failed()} : now;
    }
    return {};
  }
  [[nodiscard]] std::size_t take_turns() {
    std::size_t running = 0;
    bool idle = true;
    for (auto& w : workloads_) {
      running += w->turn() ? 1 : 0;
      idle = w->idle() && idle;
    }
    if (idle) disk_.function.clock().relax();
    return running;
  }

  [[nodiscard]] std::string progress(std::string_view what, double seconds) const {
    std::uint64_t done = 0;
    for (const auto& w : workloads_) done += w->done();
    const double rate = static_cast<double>(done) / seconds;
    return fmt::format("{}: {:.1f} s  {} IOPS  {}", what, seconds, count_text(rate),
                       rate_text(rate * o_.work.bytes));
  }

  [[nodiscard]] result<> close() {
    for (auto& w : workloads_) {
      const auto deleted =
          host_->delete_queue_pair(w->queue(), [](auto&, nvme::driver::completion) noexcept {});
      if (!deleted) return deleted;
      disk_.function.release(w->buffers());
      total_.reads += w->result().reads;
      total_.writes += w->result().writes;
      total_.read_latency.merge(w->result().read_latency);
      total_.write_latency.merge(w->result().write_latency);
      verified_ += w->verified();
      each_.push_back(w->result().reads + w->result().writes);
    }
    // The figures are printed whether or not the controller answers.
    latency_.merge(total_.read_latency);
    latency_.merge(total_.write_latency);
    if (const auto down = host_->shut_down(); !down) {
      fmt::print(stderr, "nvme_perf: warning: {}\n", down.error());
    }
    return {};
  }

  void print_text() const {
    const auto& id = host_->identity();
    const auto& l = latency_;
    fmt::print("{}\n", disk_.about);
    fmt::print("{}, serial {}, firmware {}; namespace {}: {} in blocks of {} bytes\n",
               nvme::text_of(id.mn), nvme::text_of(id.sn), nvme::text_of(id.fr), ns_.nsid,
               size_text(ns_.bytes()), ns_.block_bytes);
    fmt::print("{} of {}, {} in flight in each of {} queue{}, {:.2f} s\n\n", o_.rw,
               size_text(o_.work.bytes), o_.work.depth, o_.queues, o_.queues == 1 ? "" : "s",
               seconds_);
    const auto line = [&](const char* name, std::uint64_t count) {
      const double rate = static_cast<double>(count) / seconds_;
      fmt::print("{:<8} {:>12} = {:>7} IOPS, {}\n", name, count, count_text(rate),
                 rate_text(rate * o_.work.bytes));
    };
    if (o_.work.reads) line("reads", total_.reads);
    if (o_.work.writes) line("writes", total_.writes);
    const auto percentiles = [](const char* name, const latency_histogram& h) {
      fmt::print("{}  p50 {}  p90 {}  p99 {}  p99.9 {}  max {}\n", name,
                 time_text(h.percentile(50)), time_text(h.percentile(90)),
                 time_text(h.percentile(99)), time_text(h.percentile(99.9)), time_text(h.most()));
    };
    percentiles("latency", l);
    if (o_.work.reads && o_.work.writes) {
      percentiles(" reads ", total_.read_latency);
      percentiles(" writes", total_.write_latency);
    }
    if (each_.size() > 1) {
      fmt::print("queues  ");
      for (const std::uint64_t n : each_) {
        fmt::print(" {}", count_text(static_cast<double>(n) / seconds_));
      }
      fmt::print(" IOPS\n");
    }
    fmt::print("CPU      {} of this process for each command\n", time_text(cpu_ns_per_command()));
    fmt::print("{}", l.text());
    if (o_.work.verify) {
      fmt::print("verified {} reads: each byte is what was written\n", verified_);
    }
  }

  void print_json() const {
    const auto& id = host_->identity();
    const auto& l = latency_;
    const auto total = static_cast<double>(total_.reads + total_.writes);
    nlohmann::ordered_json out;
    out["backend"] = o_.disk.backend;
    out["about"] = disk_.about;
    out["controller"] = {{"model", nvme::text_of(id.mn)},
                         {"serial", nvme::text_of(id.sn)},
                         {"firmware", nvme::text_of(id.fr)}};
    out["namespace"] = {
        {"nsid", ns_.nsid}, {"bytes", ns_.bytes()}, {"block_bytes", ns_.block_bytes}};
    out["rw"] = o_.rw;
    out["block_bytes"] = o_.work.bytes;
    out["queue_depth"] = o_.work.depth;
    out["queues"] = o_.queues;
    out["seconds"] = seconds_;
    out["reads"] = total_.reads;
    out["writes"] = total_.writes;
    out["iops"] = total / seconds_;
    out["bytes_per_second"] = total * o_.work.bytes / seconds_;
    out["latency_ns"] = {{"min", l.least()},        {"mean", l.mean()},
                         {"p50", l.percentile(50)}, {"p90", l.percentile(90)},
                         {"p99", l.percentile(99)}, {"p99.9", l.percentile(99.9)},
                         {"max", l.most()}};
    const auto some = [](const latency_histogram& h) {
      return nlohmann::ordered_json{{"mean", h.mean()},
                                    {"p50", h.percentile(50)},
                                    {"p99", h.percentile(99)},
                                    {"p99.9", h.percentile(99.9)},
                                    {"max", h.most()}};
    };
    if (total_.reads != 0) out["read_latency_ns"] = some(total_.read_latency);
    if (total_.writes != 0) out["write_latency_ns"] = some(total_.write_latency);
    for (const std::uint64_t n : each_) {
      out["queue_iops"].push_back(static_cast<double>(n) / seconds_);
    }
    out["cpu_ns_per_command"] = cpu_ns_per_command();
    for (const auto& b : l.bars()) {
      out["histogram"].push_back({{"from_ns", b.from_ns}, {"to_ns", b.to_ns}, {"count", b.count}});
    }
    out["verified"] = o_.work.verify ? nlohmann::ordered_json(verified_) : nullptr;
    fmt::print("{}\n", out.dump(2, ' ', true, nlohmann::ordered_json::error_handler_t::replace));
  }

  // Of all threads, those of a simulated device included.
  [[nodiscard]] static double cpu_seconds() noexcept {
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  }
  // Over the whole phase: commands of the ramp are taken to be as frequent as those that count.
  [[nodiscard]] double cpu_ns_per_command() const noexcept {
    const auto total = static_cast<double>(total_.reads + total_.writes);
    return total == 0 ? 0 : cpu_seconds_ * 1e9 * (seconds_ / whole_seconds_) / total;
  }

  opened<Backend> disk_;
  const perf_options& o_;
  controller* host_ = nullptr;
  nvme::driver::namespace_info ns_;
  std::vector<std::unique_ptr<workload_type>> workloads_;
  std::atomic<bool> stop_{false};
  progress_line progress_;
  double seconds_ = 0;        // that count
  double whole_seconds_ = 0;  // with the ramp
  double cpu_seconds_ = 0;
  tally total_;
  latency_histogram latency_;        // of all commands
  std::vector<std::uint64_t> each_;  // commands of each queue
  std::uint64_t verified_ = 0;
};

void add_options(CLI::App& app, perf_options& o) {
  add_backend_options(app, o.disk);
  add_choice(app, "--rw", o.rw, "Operation; rw and randrw do both, see --mix",
             {"read", "write", "randread", "randwrite", "rw", "randrw"});
  add_size_option(app, "--bs", o.block_bytes, "Bytes of each command, such as 512, 4k, 128k", 512,
                  std::uint64_t{32} << 20)
      ->default_str("4k");
  app.add_option("--qd", o.work.depth, "Commands in flight in each queue")
      ->check(CLI::Range(1U, most_depth).description(""))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--queues", o.queues, "Queue pairs, each polled by a thread of its own")
      ->check(CLI::Range(1, 64).description(""))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--time", o.work.seconds, "Seconds to measure")
      ->check(CLI::Range(0.01, 86'400.0).description(""))
      ->type_name("S")
      ->capture_default_str();
  app.add_option("--ramp", o.work.ramp, "Seconds before those, which do not count")
      ->check(CLI::Range(0.0, 3'600.0).description(""))
      ->type_name("S");
  app.add_option("--mix", o.work.read_percent, "Percentage of reads of rw and randrw")
      ->check(CLI::Range(0U, 100U).description(""))
      ->type_name("PERCENT")
      ->capture_default_str();
  app.add_option("--rate", o.work.rate, "Commands a second at most, in each queue")->type_name("N");
  app.add_option("--count", o.work.commands, "Stop after so many commands in each queue")
      ->type_name("N");
  app.add_option("--nsid", o.nsid, "Namespace")->type_name("N")->capture_default_str();
  add_size_option(app, "--size", o.size, "Use only the beginning of the namespace", 512,
                  ~std::uint64_t{0});
  app.add_flag("--verify", o.work.verify,
               "Write what follows from the block's address; compare all that is read");
  app.add_flag("--overwrite", o.overwrite,
               "Agree that --verify of reads writes to a disk that is not simulated");
  app.add_option("--seed", o.work.seed, "Of random places and content")
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--timeout", o.work.timeout, "Seconds after which a command is given up")
      ->check(CLI::Range(0.2, 3'600.0).description(""))
      ->type_name("S")
      ->capture_default_str();
  app.add_flag("--json", o.json, "Print the result as JSON");
}

// Settings derived from the options, before any disk is opened.
[[nodiscard]] result<> settle(perf_options& o) {
  o.work.random = o.rw.starts_with("rand");
  o.work.writes = o.rw.ends_with("write") || o.rw.ends_with("rw");
  o.work.reads = !o.rw.ends_with("write");
  o.work.bytes = static_cast<std::uint32_t>(o.block_bytes);
  o.disk.read_only = !o.work.writes && !o.work.verify;
  const std::uint64_t data = o.block_bytes * o.work.depth * o.queues;
  if (data > most_dma_bytes) {
    return failure(errc::out_of_range, "--bs x --qd x --queues is more than 1 GiB of buffers",
                   data);
  }
  // Buffers; and for each command a ring entry, a completion entry and a list of its pages.
  const std::uint64_t list = std::max<std::uint64_t>(o.block_bytes / 256, 64);
  o.disk.dma_bytes = data + o.queues * ((o.work.depth + 2) * (80 + 2 * list) + (64U << 10));
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Keeps an NVMe disk busy and prints its speed", "nvme_perf"};
  perf_options options;
  add_options(app, options);
  return run_main(app, argc, argv, [&]() -> result<> {
    handle_stop_signals();
    if (const auto sound = settle(options); !sound) return sound;
    return with_backend(options.disk, [&]<class Backend>(const opened<Backend>& disk) {
      return measurement<Backend>{disk, options}.run();
    });
  });
}
