// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/spec/management_commands.hpp>

#include <cstdint>

#include <doctest/doctest.h>

using namespace phasebit::nvme;

TEST_CASE("virtualization management gives queues to a secondary controller and brings it online") {
  const auto assign =
      admin::virtualization_management({.action = virtualization_action::assign,
                                        .controller = 1,
                                        .resource = virtualization_resource::interrupts,
                                        .count = 2});
  CHECK(assign.cdw0 == 0x1cU);
  CHECK(assign.cdw10 == 0x0001'0108U);
  CHECK(assign.cdw11 == 2U);
  const auto online = admin::virtualization_management(
      {.action = virtualization_action::online, .controller = 0xffff});
  CHECK(online.cdw10 == 0xffff'0009U);
  CHECK(admin::virtualization_management({.action = virtualization_action::offline}).cdw10 == 7U);
}

TEST_CASE("namespaces are created, deleted, attached and detached") {
  CHECK(admin::create_namespace().cdw0 == 0x0dU);
  CHECK(admin::create_namespace().cdw10 == 0U);
  CHECK(admin::create_namespace(command_set::zoned).cdw11 == 0x0200'0000U);
  CHECK(admin::delete_namespace(5).cdw10 == 1U);
  CHECK(admin::delete_namespace(5).nsid == 5U);
  CHECK(admin::attach_namespace(6).cdw0 == 0x15U);
  CHECK(admin::attach_namespace(6).cdw10 == 0U);
  CHECK(admin::detach_namespace(6).cdw10 == 1U);
  CHECK(admin::detach_namespace(6).nsid == 6U);
}

TEST_CASE("format splits its index into two fields") {
  CHECK(admin::format({.nsid = 1, .format = 3}).cdw10 == 3U);
  CHECK(admin::format({.nsid = 1, .format = 0x25}).cdw10 == 0x2005U);
  const auto e = admin::format({.nsid = all_namespaces,
                                .format = 63,
                                .metadata_inline = true,
                                .pi = protection_type::type3,
                                .pi_first = true,
                                .erase = secure_erase::cryptographic});
  CHECK(e.cdw0 == 0x80U);
  CHECK(e.cdw10 == 0x357fU);
}

TEST_CASE("firmware is sent in dwords and committed to a slot") {
  const auto part = admin::firmware_download(4096, 8192);
  CHECK(part.cdw0 == 0x11U);
  CHECK(part.cdw10 == 1023U);
  CHECK(part.cdw11 == 2048U);
  const auto commit = admin::firmware_commit(2, firmware_action::activate_now);
  CHECK(commit.cdw0 == 0x10U);
  CHECK(commit.cdw10 == 0x1aU);
  CHECK(admin::firmware_commit(0, firmware_action::replace_boot_partition, true).cdw10 ==
        0x8000'0030U);
}

TEST_CASE("self-test and sanitize encode their actions") {
  CHECK(admin::device_self_test(self_test::extended).cdw10 == 2U);
  CHECK(admin::device_self_test(self_test::abort, 0).nsid == 0U);
  const auto e = admin::sanitize({.action = sanitize_action::overwrite,
                                  .unrestricted_exit = true,
                                  .passes = 16,
                                  .pattern = 0xa5a5'5a5a,
                                  .invert = true});
  CHECK(e.cdw0 == 0x84U);
  CHECK(e.cdw10 == 0x010bU);
  CHECK(e.cdw11 == 0xa5a5'5a5aU);
  CHECK(admin::sanitize({.action = sanitize_action::crypto_erase, .no_deallocate = true}).cdw10 ==
        0x0214U);
}
