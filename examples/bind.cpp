// SPDX-License-Identifier: BSL-1.0
// Lists NVMe and virtio functions, and gives them to vfio-pci, to uio_pci_generic or back to the
// kernel's own driver. Nothing is written without --yes.
#include "support/bind_functions.hpp"
#include "support/bind_plan.hpp"
#include "support/bind_print.hpp"
#include "support/run_main.hpp"

#include <string>
#include <vector>

using namespace example;
using namespace example::binding;

namespace {

struct bind_options {
  roots where;
  selection wanted;
  std::string to;
  bool yes = false;
  bool force = false;
  bool json = false;
};

void list(const bind_options& o) {
  const auto functions = read_functions(o.where, o.wanted);
  if (o.json) {
    auto out = binding::json::array();
    for (const auto& f : functions) out.push_back(json_of(f));
    fmt::print("{}\n", out.dump(2));
    return;
  }
  if (functions.empty()) {
    fmt::print("no {} here\n", o.wanted.all || !o.wanted.class_filter.empty()
                                   ? "such function"
                                   : "NVMe or virtio function (--all lists the others)");
  }
  for (const auto& f : functions) print(f);
}

// All changes are planned, and all objections collected, before anything is written.
[[nodiscard]] std::vector<change> plan(const bind_options& o) {
  if (o.wanted.addresses.empty()) {
    throw complaint("--to requires functions: bind 0000:01:00.0 --to " + o.to);
  }
  std::vector<change> changes;
  for (auto& f : read_functions(o.where, o.wanted)) {
    changes.push_back(plan_change(o.where, std::move(f), o.to));
    change& c = changes.back();
    const auto in_use = c.function.in_use();
    if (!c.leaves || in_use.empty()) continue;
    const std::string why = fmt::format("{}", fmt::join(in_use, ", "));
    if (!o.force) {
      throw complaint(fmt::format("{}: is in use: {} (--force takes it all the same)",
                                  c.function.address, why));
    }
    c.notes.push_back("forced, though " + why);
  }
  return changes;
}

void move(const bind_options& o) {
  const auto changes = plan(o);
  transaction moves{o.where};
  auto out = binding::json::array();
  bool nothing = true;
  for (const auto& c : changes) {
    nothing = nothing && c.steps.empty();
    if (o.yes && !c.missing_module.empty()) {
      throw complaint(
          fmt::format("{}: the driver is not loaded: modprobe {}", c.target, c.missing_module));
    }
  }
  for (const auto& c : changes) {
    if (!o.json) print_plan(c);
    if (o.yes) moves.make(c);
    if (o.json) {
      out.push_back(json_of(c, o.yes, moves.driver(c)));
    } else if (o.yes && !c.steps.empty()) {
      fmt::print("{}: is with {} now\n", c.function.address, or_none(moves.driver(c)));
    }
  }
  if (o.json) {
    fmt::print("{}\n", out.dump(2));
  } else if (!o.yes && !nothing) {
    fmt::print("nothing has been written: --yes does it\n");
  }
}

void add_options(CLI::App& app, bind_options& o) {
  app.add_option("functions", o.wanted.addresses, "These functions only")->type_name("BDF");
  app.add_flag("-a,--all", o.wanted.all, "List every PCI function");
  app.add_option("--class", o.wanted.class_filter,
                 "Those of a class: nvme, virtio, or the beginning of a class code such as 0108")
      ->check([](const std::string& text) {
        const bool code = text.find_first_not_of("0123456789abcdef") == std::string::npos;
        return code || text == "nvme" || text == "virtio"
                   ? std::string{}
                   : text + " is neither nvme nor virtio nor a class code in lower-case hex";
      })
      ->type_name("CLASS");
  app.add_option("--to", o.to, "Give them to this driver; `kernel` is the kernel's own")
      ->check(CLI::IsMember({"vfio-pci", "uio_pci_generic", "kernel", "none"}).description(""))
      ->type_name("vfio-pci|uio_pci_generic|kernel|none");
  app.add_flag("-y,--yes", o.yes, "Do it; without, only print what would be written");
  app.add_flag("--force", o.force, "Take functions that are in use, too");
  app.add_flag("--json", o.json, "Print JSON");
  app.add_option("--sysfs", o.where.sysfs, "Where /sys is")
      ->envname("PHASEBIT_SYSFS")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--proc", o.where.proc, "Where /proc is")
      ->envname("PHASEBIT_PROC")
      ->type_name("DIR")
      ->capture_default_str();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Lists NVMe and virtio functions, and gives them from one driver to another",
               "bind"};
  bind_options options;
  add_options(app, options);
  return run_main(app, argc, argv, [&]() -> phasebit::result<> {
    options.to.empty() ? list(options) : move(options);
    return {};
  });
}
