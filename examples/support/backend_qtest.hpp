// SPDX-License-Identifier: BSL-1.0
// The examples' disk inside of a QEMU: its own NVMe controller over an image, with no guest between.
#pragma once

#include "support/backend_options.hpp"
#include "support/opened.hpp"

#include <phasebit/backend/qtest.hpp>

#include <string>
#include <utility>
#include <vector>

namespace example {

template <class Use>
[[nodiscard]] phasebit::result<> with_qtest(const backend_options& o, Use& use) {
  using namespace phasebit;
  namespace qtest = backend::qtest;
  constexpr std::uint32_t nvme_class = 0x01'08'02;
  if (o.image.empty()) {
    return failure(errc::invalid_argument,
                   "QEMU needs a disk: --image FILE (make one with truncate -s 64M FILE)");
  }
  constexpr std::uint64_t mebibyte = std::uint64_t{1} << 20;
  // A property that the controller lacks makes the namespace a device of its own.
  std::vector<std::string> devices{"nvme,serial=phasebit,drive=d0"};
  if (!o.namespace_properties.empty()) {
    devices = {"nvme,serial=phasebit,id=c0", "nvme-ns,bus=c0,drive=d0," + o.namespace_properties};
  }
  auto machine =
      qtest::machine::start({.memory_bytes = (o.dma_bytes + 32 * mebibyte) & ~(mebibyte - 1),
                             .drives = {{.id = "d0", .path = o.image, .read_only = o.read_only}},
                             .devices = std::move(devices)});
  if (!machine) return machine.error();

  auto function = machine->open_class(nvme_class);
  if (!o.device.empty()) {
    const auto address = address_of(o.device);
    if (!address) return address.error();
    if (address->segment != 0) {
      return failure(errc::not_found, "the machine has PCI segment 0 only").of(o.device);
    }
    function = machine->open(address->id);
  }
  if (!function) return function.error();
  if (function->about().class_code != nvme_class) {
    return failure(errc::not_supported, "is no NVMe controller; its class code",
                   function->about().class_code)
        .of(o.device);
  }
  const auto ended = use(opened<qtest::function>{
      *function, "QEMU's NVMe controller over qtest: registers cost a message each", true, false});
  // A QEMU that died looks like a device that was pulled out; its exit status shows which.
  if (!ended) {
    if (const auto alive = machine->status(); !alive) return alive;
  }
  return ended;
}

}  // namespace example
