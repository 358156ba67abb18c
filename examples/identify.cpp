// SPDX-License-Identifier: BSL-1.0
// Prints the identity of an NVMe controller and its namespaces, as `nvme id-ctrl` and `nvme id-ns`
// do.
#include "support/identify_fields.hpp"
#include "support/open_backend.hpp"
#include "support/run_main.hpp"
#include "support/stop_signal.hpp"

#include <phasebit/nvme/driver/controller.hpp>

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

using namespace phasebit;
using namespace example;
using json = nlohmann::ordered_json;

namespace {

struct identify_options {
  backend_options disk;
  std::uint32_t nsid = 0;
  bool human = false;
  bool json = false;
};

void print_fields(const std::vector<identify_field>& fields, int width, bool human) {
  for (const identify_field& f : fields) {
    fmt::print("{:<{}}: {}\n", f.name, width, f.text());
    if (!human) continue;
    for (const std::string& line : f.meaning) fmt::print("{:<{}}  {}\n", "", width, line);
  }
}

[[nodiscard]] json json_of(const std::vector<identify_field>& fields) {
  json out = json::object();
  for (const identify_field& f : fields) {
    std::visit([&](const auto& value) { out[f.name] = value; }, f.value);
  }
  return out;
}

// NLBAF and NULBAF may count more formats than the structure holds.
[[nodiscard]] std::size_t formats_of(const nvme::identify_namespace& n) {
  return std::min<std::size_t>(std::size_t{n.nlbaf} + 1 + n.nulbaf, n.lbaf.size());
}

void print_formats(const nvme::identify_namespace& n, bool human) {
  constexpr const char* speed[] = {"best", "better", "good", "degraded"};
  for (std::size_t i = 0; i != formats_of(n); ++i) {
    const auto& f = n.lbaf[i];
    const auto rp = nvme::lba_format::rp_bits.get(f.rp);
    fmt::print("lbaf {:>2} : ms:{:<3} lbads:{:<2} rp:{:#x}{}", i, f.ms.get(), f.lbads, rp,
               i == n.format_index() ? " (in use)" : "");
    if (human && f.lbads == 0) {
      fmt::print("  not available");
    } else if (human && f.lbads < 32) {
      fmt::print("  {} bytes and {} of metadata, performance {}", 1U << f.lbads, f.ms.get(),
                 speed[rp]);
    }
    fmt::print("\n");
  }
}

[[nodiscard]] json json_of_formats(const nvme::identify_namespace& n) {
  json out = json::array();
  for (std::size_t i = 0; i != formats_of(n); ++i) {
    const auto& f = n.lbaf[i];
    out.push_back(
        {{"ms", f.ms.get()}, {"ds", f.lbads}, {"rp", nvme::lba_format::rp_bits.get(f.rp)}});
  }
  return out;
}

[[nodiscard]] std::size_t power_states_of(const nvme::identify_controller& id) {
  return std::min<std::size_t>(id.npss + 1U, id.psd.size());
}
[[nodiscard]] json json_of_power_states(const nvme::identify_controller& id) {
  json out = json::array();
  for (std::size_t i = 0; i != power_states_of(id); ++i) {
    const auto& p = id.psd[i];
    out.push_back(
        {{"max_power", p.mp.get()},
         {"max_power_scale", nvme::power_state_descriptor::mxps.get(p.flags) ? 1 : 0},
         {"non-operational_state", nvme::power_state_descriptor::nops.get(p.flags) ? 1 : 0},
         {"entry_lat", p.enlat.get()},
         {"exit_lat", p.exlat.get()},
         {"read_tput", p.rrt},
         {"read_lat", p.rrl},
         {"write_tput", p.rwt},
         {"write_lat", p.rwl}});
  }
  return out;
}

template <class Backend>
[[nodiscard]] result<> identify(const opened<Backend>& disk, const identify_options& o) {
  auto host = nvme::driver::controller<Backend>::attach(disk.function);
  if (!host) return host.error();
  const auto& id = host->identity();
  const auto fields = controller_fields(id, host->capabilities().min_page_bytes());

  // All active namespaces; or the one that was asked for, active or not.
  std::vector<std::uint32_t> nsids(1, o.nsid);
  if (o.nsid == 0) {
    nsids.clear();
    for (std::size_t more = 1024; more == 1024;) {
      std::vector<std::uint32_t> page(1024);
      const auto count = host->active_namespaces(page, nsids.empty() ? 0 : nsids.back());
      if (!count) return count.error();
      nsids.insert(nsids.end(), page.begin(), page.begin() + static_cast<std::ptrdiff_t>(*count));
      more = *count;
    }
  }

  // Everything is asked before anything is printed: a result is whole, or there is none.
  std::vector<nvme::identify_namespace> namespaces;
  for (const std::uint32_t nsid : nsids) {
    auto& ns = namespaces.emplace_back();
    const auto asked = host->identify({.cns = nvme::cns::identify_namespace, .nsid = nsid},
                                      writable_wire_bytes(ns));
    if (!asked) return asked.error().at(nsid);
    if (ns.nsze == 0) {
      return failure(errc::not_found, "there is no active namespace with this id", nsid);
    }
  }
  const result<> closed = host->shut_down();
  const auto warn = [&] {
    if (!closed) fmt::print(stderr, "identify: warning: {}\n", closed.error());
  };

  if (o.json) {
    json out = {{"controller", json_of(fields)}, {"namespaces", json::array()}};
    out["controller"]["psds"] = json_of_power_states(id);
    for (std::size_t i = 0; i != nsids.size(); ++i) {
      json one = {{"nsid", nsids[i]}};
      one.update(json_of(namespace_fields(namespaces[i])));
      one["lbafs"] = json_of_formats(namespaces[i]);
      out["namespaces"].push_back(std::move(one));
    }
    fmt::print("{}\n", out.dump(2));
    warn();
    return {};
  }
  fmt::print("NVME Identify Controller:\n");
  print_fields(fields, 10, o.human);
  for (std::size_t i = 0; i != power_states_of(id); ++i) {
    fmt::print("ps {:>6} : {}\n", i, power_state_text(id.psd[i]));
  }
  for (std::size_t i = 0; i != nsids.size(); ++i) {
    fmt::print("\nNVME Identify Namespace {}:\n", nsids[i]);
    print_fields(namespace_fields(namespaces[i]), 8, o.human);
    print_formats(namespaces[i], o.human);
  }
  warn();
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Prints the identity of an NVMe controller and its namespaces", "identify"};
  identify_options options;
  app.add_option("--nsid", options.nsid, "This namespace only; without, all that are active")
      ->type_name("N");
  app.add_flag("-H,--human-readable", options.human, "Decode bits and numbers");
  app.add_flag("--json", options.json, "Print JSON, numbers in decimal");
  add_backend_options(app, options.disk);
  return run_main(app, argc, argv, [&] {
    // Commands take milliseconds: the controller is shut down at the end, not left behind enabled.
    handle_stop_signals();
    options.disk.read_only = true;
    return with_backend(options.disk, [&](const auto& disk) { return identify(disk, options); });
  });
}
