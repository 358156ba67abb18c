// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/device/secondary_controllers.hpp>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

namespace {

using enum status_code;
using action = virtualization_action;
using resource = virtualization_resource;

struct primary_policy : device::default_policy {
  using secondary = device::secondary_controllers<4>;
};

struct primary : machine<primary_policy> {
  primary() {
    controller.secondary().configure(0, 1, {8, 5, 4}, {4, 5, 2});
    enable();
    buffer = page();
  }
  completion_entry manage(action what, std::uint16_t id, resource kind = resource::queues,
                          std::uint16_t count = 0) {
    return admin(nvme::admin::virtualization_management(
        {.action = what, .controller = id, .resource = kind, .count = count}));
  }
  status_code code(action what, std::uint16_t id, resource kind = resource::queues,
                   std::uint16_t count = 0) {
    return manage(what, id, kind, count).status().code();
  }
  primary_controller_capabilities capabilities() {
    REQUIRE(admin_code(with_data(nvme::admin::identify({.cns = cns::primary_controller}),
                                 buffer)) == success);
    return load_wire<primary_controller_capabilities>(ram.bytes(buffer, 4096));
  }
  secondary_controller_entry entry(std::size_t i, std::uint16_t from = 0) {
    REQUIRE(admin_code(with_data(
                nvme::admin::identify({.cns = cns::secondary_controller_list, .cntid = from}),
                buffer)) == success);
    return load_wire<secondary_controller_entry>(ram.bytes(buffer + 32 * (i + 1), 32));
  }
  bus_addr buffer{};
};

}  // namespace

TEST_CASE("Virtualization Management: a controller that is not there, or not of this kind") {
  primary m;
  for (const action what : {action::offline, action::assign, action::online}) {
    CHECK(m.code(what, 0) == invalid_controller_id);
    CHECK(m.code(what, 5) == invalid_controller_id);
    CHECK(m.code(what, 0xffff) == invalid_controller_id);
  }
  CHECK(m.code(action::allocate_primary, 1) == invalid_controller_id);
}

TEST_CASE("Virtualization Management: more resources than there are, or than one may have") {
  primary m;
  CHECK(m.code(action::assign, 1, resource::queues, 5) == invalid_controller_resource_count);
  CHECK(m.code(action::assign, 1, resource::queues, 4) == success);
  CHECK(m.code(action::assign, 2, resource::queues, 4) == success);
  CHECK(m.code(action::assign, 3, resource::queues, 1) == invalid_controller_resource_count);
  CHECK(m.code(action::assign, 1, resource::queues, 3) == success);
  CHECK(m.code(action::assign, 3, resource::queues, 1) == success);
  CHECK(m.code(action::assign, 1, resource::interrupts, 3) == invalid_controller_resource_count);
  CHECK(m.code(action::allocate_primary, 0, resource::interrupts, 5) ==
        invalid_controller_resource_count);
  CHECK(m.code(action::allocate_primary, 0, resource::queues, 1) ==
        invalid_controller_resource_count);
}

TEST_CASE("Virtualization Management: kinds of resources and actions that do not exist") {
  primary m;
  for (unsigned kind = 2; kind != 8; ++kind) {
    CHECK(m.code(action::assign, 1, static_cast<resource>(kind), 1) == invalid_resource_id);
    CHECK(m.code(action::allocate_primary, 0, static_cast<resource>(kind), 1) ==
          invalid_resource_id);
  }
  for (unsigned what = 0; what != 16; ++what) {
    if (what == 1 || (what >= 7 && what <= 9)) continue;
    CHECK(m.code(static_cast<action>(what), 1) == invalid_field);
  }
}

TEST_CASE("a secondary goes online with its function and its resources, and keeps them then") {
  primary m;
  m.code(action::assign, 1, resource::queues, 2);
  m.code(action::assign, 1, resource::interrupts, 1);
  CHECK(m.code(action::online, 1) == invalid_secondary_controller_state);
  m.controller.secondary().set_virtual_functions(2);
  CHECK(m.code(action::online, 2) == invalid_secondary_controller_state);
  const auto before = m.controller.secondary().generation();
  CHECK(m.code(action::online, 1) == success);
  CHECK(m.controller.secondary().generation() != before);
  CHECK(m.controller.secondary().entry(0).online);
  CHECK(m.code(action::assign, 1, resource::queues, 3) == invalid_secondary_controller_state);
  CHECK(m.code(action::offline, 1) == success);
  CHECK(m.code(action::assign, 1, resource::queues, 1) == success);
  CHECK(m.code(action::online, 1) == invalid_secondary_controller_state);
  m.code(action::assign, 1, resource::queues, 2);
  CHECK(m.code(action::online, 1) == success);
  m.controller.secondary().set_virtual_functions(0);
  CHECK_FALSE(m.controller.secondary().entry(0).online);
}

TEST_CASE("what the primary takes is its own after its reset, and not to be given away before") {
  primary m;
  const auto done = m.manage(action::allocate_primary, 0, resource::queues, 6);
  CHECK(done.status().ok());
  CHECK(done.dw0 == 6);
  CHECK(m.capabilities().vqrfap == 0);
  CHECK(m.code(action::assign, 1, resource::queues, 3) == invalid_controller_resource_count);
  CHECK(m.manage(action::assign, 1, resource::queues, 2).dw0 == 2);
  m.enable();
  const auto after = m.capabilities();
  CHECK(after.vqrfap == 6);
  CHECK(after.vqfrt == 8);
  CHECK(after.vqrfa == 2);
  CHECK(after.vqprt == 5);
  CHECK(after.vqfrsm == 4);
  CHECK(after.vifrt == 4);
}

TEST_CASE("a reset of the primary takes its secondaries offline, and they keep their resources") {
  primary m;
  m.controller.secondary().set_virtual_functions(4);
  m.code(action::assign, 2, resource::queues, 2);
  m.code(action::assign, 2, resource::interrupts, 1);
  REQUIRE(m.code(action::online, 2) == success);
  const auto before = m.controller.secondary().generation();
  m.enable();
  CHECK_FALSE(m.controller.secondary().entry(1).online);
  CHECK(m.controller.secondary().generation() != before);
  CHECK(m.entry(1).nvq == 2);
  CHECK(m.code(action::online, 2) == success);
}

TEST_CASE("a count that is no multiple of the granularity is rounded up where there is as much") {
  primary m;
  m.controller.secondary().configure(0, 1, {8, 5, 5, 2}, {4, 5, 2});
  CHECK(m.manage(action::assign, 1, resource::queues, 3).dw0 == 4);
  CHECK(m.manage(action::assign, 2, resource::queues, 3).dw0 == 4);
  CHECK(m.code(action::assign, 3, resource::queues, 1) == invalid_controller_resource_count);
  CHECK(m.capabilities().vqgran == 2);
  CHECK(m.capabilities().vqrfa == 8);
}

TEST_CASE("the list of secondaries begins where it is asked to") {
  primary m;
  m.controller.secondary().set_virtual_functions(4);
  m.code(action::assign, 3, resource::queues, 2);
  m.code(action::assign, 3, resource::interrupts, 1);
  m.code(action::online, 3);
  const auto third = m.entry(2);
  CHECK(*m.ram.at(m.buffer) == std::byte{4});
  CHECK(third.scid == 3);
  CHECK(third.pcid == 0);
  CHECK(third.vfn == 3);
  CHECK(third.nvq == 2);
  CHECK(third.nvi == 1);
  CHECK(secondary_controller_entry::online.get(third.scs));
  CHECK(m.entry(0, 4).scid == 4);
  CHECK(*m.ram.at(m.buffer) == std::byte{1});
  CHECK(m.entry(0, 5).scid == 0);
}

TEST_CASE("only a primary controller reports secondary controllers") {
  const auto oacs = [](auto& m) {
    const bus_addr page = m.page();
    m.admin(with_data(admin::identify({}), page));
    return load_wire<identify_controller>(m.ram.bytes(page, 4096)).oacs.get();
  };
  primary first;
  CHECK(identify_controller::oacs_virtualization.get(oacs(first)));
  machine m;
  m.enable();
  CHECK_FALSE(identify_controller::oacs_virtualization.get(oacs(m)));
  CHECK(m.admin_code(admin::virtualization_management({})) == invalid_opcode);
  CHECK(m.admin_code(with_data(admin::identify({.cns = cns::primary_controller}), m.page())) ==
        invalid_field);
}

TEST_CASE("a controller that is offline shows zeros, or a fatal status, and swallows writes") {
  auto s = machine<>::small();
  s.starts_offline = true;
  machine m{s};
  CHECK(m.reg<cap>().raw == 0);
  CHECK(m.reg<csts>().raw == 0);
  m.enable();
  CHECK(m.reg<csts>().raw == 0);
  m.controller.set_resources(2, 2);
  m.controller.set_online(true);
  CHECK(m.reg<cap>().raw != 0);
  m.enable();
  CHECK(m.admin(admin::set_features({.fid = feature_id::number_of_queues, .cdw11 = 0x0007'0007}))
            .dw0 == number_of_queues::of(2, 2).raw);
  CHECK(m.admin_code(
            admin::create_io_cq({.qid = 1, .entries = 8, .memory = m.page(), .vector = 2})) ==
        invalid_interrupt_vector);
  m.create(2, 8);
  m.controller.set_online(false);
  CHECK(m.reg<csts>().raw == 2);
  CHECK(m.controller.poll() == 0);
  m.controller.write32(cc::offset, machine<>::enabled_cc().raw);
  CHECK(m.reg<csts>().raw == 2);
  m.controller.set_online(true);
  CHECK(m.reg<csts>().raw == 0);
  m.enable();
  m.create(1, 8);
  CHECK(m.io_code(nvm::flush(1)) == success);
}
