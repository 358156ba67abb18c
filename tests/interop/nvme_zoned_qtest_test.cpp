// SPDX-License-Identifier: BSL-1.0
// The builders of the zoned command set against QEMU's zoned namespace.
#include <phasebit/backend/qtest.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/driver/wait.hpp>
#include <phasebit/nvme/spec/zoned.hpp>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/skip.hpp>
#include <unistd.h>

namespace qtest = phasebit::backend::qtest;
using namespace phasebit_test;
using namespace phasebit;
using namespace phasebit::nvme;

namespace {

constexpr std::uint64_t zone_blocks = 128;
constexpr std::uint64_t zones = 16;

template <class Queue>
driver::completion finish(Queue& queue, driver::submitted posted) {
  REQUIRE_MESSAGE(posted, posted.what);
  queue.ring();
  driver::completion answer;
  REQUIRE(
      driver::wait(queue, 10'000, [&](unsigned&, driver::completion c) noexcept { answer = c; }));
  return answer;
}

template <class Queue>
std::vector<zone_descriptor> report(Queue& queue, const dma_region& data, std::uint64_t lba,
                                    zone_filter which = zone_filter::all) {
  const auto bytes = static_cast<std::uint32_t>(data.size());
  std::memset(data.data(), 0xff, data.size());
  const auto c = finish(
      queue, queue.submit_unchecked(
                 zns::zone_management_receive(
                     {.nsid = 1, .lba = lba, .bytes = bytes, .filter = which, .partial = true}),
                 data, 0U));
  REQUIRE(c.ok());
  const auto header = load_wire<zone_report>(data.bytes);
  REQUIRE(header.zones <= (bytes - 64) / 64);
  std::vector<zone_descriptor> out;
  for (std::size_t i = 0; i != header.zones; ++i) {
    out.push_back(load_wire<zone_descriptor>(data.bytes.subspan(64 + 64 * i)));
  }
  return out;
}

}  // namespace

TEST_CASE("QEMU's zoned namespace is reported, appended to, finished and reset") {
  if (std::system("command -v qemu-system-x86_64 >/dev/null 2>&1") != 0) {
    skip("qemu-system-x86_64 is not installed");
  }
  const std::string path = "/tmp/phasebit-zoned-" + std::to_string(::getpid()) + ".img";
  { std::ofstream{path, std::ios::binary} << std::string(zones * zone_blocks * 512, '\0'); }
  struct remover {
    const std::string& path;
    ~remover() { ::unlink(path.c_str()); }
  } const removes{path};
  auto machine = qtest::machine::start(
      {.drives = {{"d0", path}},
       .devices = {"nvme,id=n0,serial=zoned",
                   "nvme-ns,drive=d0,bus=n0,nsid=1,zoned=on,zoned.zone_size=64K,"
                   "zoned.zone_capacity=60K,zoned.max_open=4,zoned.max_active=6"}});
  REQUIRE_MESSAGE(machine, machine.error().what);
  auto function = machine->open_class(0x010802);
  REQUIRE(function);
  auto host = driver::attach(*function, {.all_command_sets = true});
  REQUIRE_MESSAGE(host, host.error().what);
  CHECK(*host->command_set_of(1) == command_set::zoned);

  zoned_identify_namespace id;
  REQUIRE(host->identify({.cns = cns::command_set_namespace, .nsid = 1, .csi = command_set::zoned},
                         writable_wire_bytes(id)));
  CHECK(id.lbafe[0].zone_blocks == zone_blocks);
  CHECK(id.mor == 3);
  CHECK(id.mar == 5);

  auto queue = host->create_queue_pair({.depth = 8}, driver::tokens<unsigned, 8>);
  REQUIRE_MESSAGE(queue, queue.error().what);
  const auto list = allocate(*function, 4096);
  const auto data = allocate(*function, 8 * 512);
  REQUIRE(list);
  REQUIRE(data);

  auto all = report(*queue, *list, 0);
  REQUIRE(all.size() == zones);
  for (std::size_t i = 0; i != zones; ++i) {
    CHECK(all[i].start == i * zone_blocks);
    CHECK(all[i].write_pointer == i * zone_blocks);
    CHECK(all[i].capacity == 120);
    CHECK(all[i].state() == zone_state::empty);
  }
  CHECK(report(*queue, *list, 5 * zone_blocks).size() == zones - 5);

  // Two appends to zone 3: the device reports where they are.
  const std::uint64_t zone = 3 * zone_blocks;
  for (unsigned i = 0; i != 2; ++i) {
    std::memset(data->data(), static_cast<int>(0x41 + i), data->size());
    const auto c = finish(
        *queue,
        queue->submit_unchecked(zns::zone_append({.nsid = 1, .lba = zone, .blocks = 8}), *data, i));
    REQUIRE(c.ok());
    CHECK(zns::appended_at(c) == zone + 8 * i);
  }
  for (unsigned i = 0; i != 2; ++i) {
    CHECK(finish(*queue, queue->read({.lba = zone + 8 * i, .blocks = 8}, *data, 0U)).ok());
    for (const std::byte b : data->bytes()) REQUIRE(b == static_cast<std::byte>(0x41 + i));
  }
  const auto opened = report(*queue, *list, 0, zone_filter::implicitly_opened);
  REQUIRE(opened.size() == 1);
  CHECK(opened[0].start == zone);
  CHECK(opened[0].write_pointer == zone + 16);

  // A write elsewhere than at the write pointer, and an append that does not fit.
  CHECK(finish(*queue, queue->write({.lba = zone, .blocks = 8}, *data, 0U)).status() ==
        status_code::zone_invalid_write);
  CHECK(finish(*queue, queue->write({.lba = zone + 16, .blocks = 8}, *data, 0U)).ok());
  for (unsigned i = 0; i != 12; ++i) {
    REQUIRE(finish(*queue, queue->submit_unchecked(
                               zns::zone_append({.nsid = 1, .lba = zone, .blocks = 8}), *data, 0U))
                .ok());
  }
  CHECK(finish(*queue, queue->submit_unchecked(
                           zns::zone_append({.nsid = 1, .lba = zone, .blocks = 8}), *data, 0U))
            .status() == status_code::zone_is_full);

  CHECK(finish(*queue, queue->submit(zns::zone_management_send(1, zone_send_action::open, 0), 0U))
            .ok());
  CHECK(report(*queue, *list, 0)[0].state() == zone_state::explicitly_opened);
  CHECK(finish(*queue, queue->submit(zns::zone_management_send(1, zone_send_action::close, 0), 0U))
            .ok());
  CHECK(finish(*queue, queue->submit(
                           zns::zone_management_send(1, zone_send_action::finish, zone_blocks), 0U))
            .ok());
  all = report(*queue, *list, 0);
  CHECK(all[1].state() == zone_state::full);
  CHECK(all[3].state() == zone_state::full);
  CHECK(
      finish(*queue, queue->submit(zns::zone_management_send(1, zone_send_action::reset, zone), 0U))
          .ok());
  all = report(*queue, *list, 0);
  CHECK(all[3].state() == zone_state::empty);
  CHECK(all[3].write_pointer == zone);
  CHECK(finish(*queue,
               queue->submit(zns::zone_management_send(1, zone_send_action::reset, 0, true), 0U))
            .ok());
  for (const auto& z : report(*queue, *list, 0)) CHECK(z.state() == zone_state::empty);
}
