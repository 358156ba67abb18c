// SPDX-License-Identifier: BSL-1.0
// Virtual functions of an NVMe controller whose physical function stays with Linux's driver.
#include "guest.hpp"

#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/identify_lists.hpp>
#include <phasebit/nvme/spec/management_commands.hpp>

#include <cstring>

#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <support/nvme_end_to_end.hpp>
#include <sys/ioctl.h>

namespace phasebit_guest {

using namespace phasebit;

namespace {

// One of our admin commands through Linux's driver. Ends the program when it is refused.
void pass(int file, const nvme::submission_entry& command, void* data, std::uint32_t bytes) {
  ::nvme_admin_cmd request{};
  request.opcode = command.opcode();
  request.nsid = command.nsid;
  request.addr = reinterpret_cast<std::uintptr_t>(data);
  request.data_len = bytes;
  request.cdw10 = command.cdw10;
  request.cdw11 = command.cdw11;
  request.timeout_ms = 10'000;
  const int status = ::ioctl(file, NVME_IOCTL_ADMIN_CMD, &request);
  if (status < 0) fail(posix::os_error("the admin command was not taken"));
  if (status > 0) {
    fail(failure(errc::io, "the admin command was refused; status",
                 static_cast<std::uint64_t>(status)));
  }
}

}  // namespace

// --make-vfs PF COUNT DEVICE: resources, VF enable, online; prints a line for each.
void make_virtual_functions() {
  const auto count = static_cast<std::uint16_t>(std::stoul(rest.at(0)));
  const auto address = pcie::parse_function_address(bdf);
  auto pf = must(vfio::physical_function::find(*address));
  if (pf.set_virtual_functions(static_cast<std::uint16_t>(pf.total_virtual_functions() + 1))
          .error()
          .code != errc::out_of_range) {
    std::exit(1);
  }
  const auto file = must(posix::open_file(rest.at(1).c_str(), O_RDWR));
  const auto manage = [&](nvme::virtualization_command c) {
    pass(file.get(), nvme::admin::virtualization_management(c), nullptr, 0);
  };
  nvme::secondary_controller_list list;
  const auto look = [&] {
    pass(file.get(), nvme::admin::identify({.cns = nvme::cns::secondary_controller_list}), &list,
         sizeof list);
    if (list.entries().size() < count) {
      fail(failure(errc::not_found, "too few secondary controllers", list.entries().size()));
    }
  };
  look();
  for (std::uint16_t i = 0; i != count; ++i) {
    const std::uint16_t id = list.entry[i].scid;
    using enum nvme::virtualization_resource;
    manage({.action = nvme::virtualization_action::assign,
            .controller = id,
            .resource = queues,
            .count = 2});
    manage({.action = nvme::virtualization_action::assign,
            .controller = id,
            .resource = interrupts,
            .count = 1});
  }
  must(pf.set_virtual_functions(count));
  look();
  for (std::uint16_t i = 0; i != count; ++i) {
    manage({.action = nvme::virtualization_action::online, .controller = list.entry[i].scid});
  }
  look();
  for (std::uint16_t i = 0; i != count; ++i) {
    const auto& e = list.entry[i];
    if (!nvme::secondary_controller_entry::online.get(e.scs) || e.nvq != 2U) {
      fail(failure(errc::protocol, "a virtual function is not online", i));
    }
  }
  const auto functions = pf.addresses();
  if (functions.size() != count) {
    fail(failure(errc::protocol, "Linux shows another number of functions", functions.size()));
  }
  for (const auto& function : functions) std::printf("%s\n", posix::name_of(function).c_str());
}

// --use-vf VF LBA BLOCKS SEED: writes a pattern of its own, many times, and reads it back.
void use_virtual_function() {
  auto function = must(vfio::function::open(bdf));
  auto host = must(nvme_controller::attach(function));
  auto disk = must(nvme::driver::disk<nvme_controller>::open(host));
  const std::uint64_t lba = std::stoul(rest.at(0));
  std::vector<std::byte> out(std::stoul(rest.at(1)) * 512);
  std::vector<std::byte> in(out.size());
  for (std::uint32_t round = 0; round != 20; ++round) {
    phasebit_test::fill_block(out, std::stoul(rest.at(2)), round);
    must(disk.write(lba, out));
    must(disk.read(lba, in));
    if (in != out) fail(failure(errc::protocol, "what was read is not what was written", round));
  }
  must(disk.flush());
  std::FILE* const file = std::fopen(rest.at(3).c_str(), "wb");
  if (file == nullptr || std::fwrite(out.data(), 1, out.size(), file) != out.size()) std::exit(1);
  std::fclose(file);
  std::printf("cntlid %u\n", static_cast<unsigned>(host.identity().cntlid));
}

}  // namespace phasebit_guest
