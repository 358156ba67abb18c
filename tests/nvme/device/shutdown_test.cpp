// SPDX-License-Identifier: BSL-1.0
// A shutdown while the controller itself has operations at the media.
#include <phasebit/nvme/device/maintenance.hpp>
#include <phasebit/nvme/spec/management_commands.hpp>

#include <doctest/doctest.h>
#include <nvme/device/async_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

struct with_self_test : device::default_policy {
  using maintenance = device::maintenance_commands;
};

}  // namespace

TEST_CASE("a shutdown completes while a self-test reads the media") {
  for (std::uint32_t delay = 0; delay != 6; ++delay) {
    CAPTURE(delay);
    async_machine<with_self_test> m;
    m.enable();
    m.media.plan().fixed = {.delay = delay};
    m.other.plan().fixed = {.delay = delay};
    REQUIRE(m.admin_code(nvme::admin::device_self_test(self_test::extended, all_namespaces)) ==
            success);
    m.poll(delay + 1);
    m.controller.write32(cc::offset,
                         m.enabled_cc().with(cc::shn, shutdown_notification::normal).raw);
    bool complete = false;
    for (int i = 0; i != 200 && !complete; ++i) {
      m.poll();
      complete = m.template reg<csts>()[csts::shst] == shutdown_status::complete;
    }
    CHECK(complete);
    // And a reset after it drains.
    m.controller.write32(cc::offset, 0);
    for (int i = 0; i != 200 && m.ready(); ++i) m.poll();
    CHECK(!m.ready());
  }
}
