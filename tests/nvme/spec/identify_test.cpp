// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/spec/identify.hpp>
#include <phasebit/nvme/spec/identify_nvm.hpp>

#include <array>
#include <cstdint>
#include <string_view>

#include <doctest/doctest.h>

using namespace phasebit::nvme;

TEST_CASE("a text field is padded when written and trimmed when read") {
  identify_controller id{};
  set_text(id.sn, "S3R1AL");
  CHECK(id.sn[6] == ' ');
  CHECK(id.sn[19] == ' ');
  CHECK(text_of(id.sn) == "S3R1AL");
  set_text(id.fr, "longer than eight");
  CHECK(text_of(id.fr) == "longer t");
}

TEST_CASE("a text field that the device left as zeros, or full, is read within its bounds") {
  identify_controller id{};
  CHECK(text_of(id.mn).empty());
  id.mn.fill('x');
  CHECK(text_of(id.mn).size() == 40);
  id.mn.fill(' ');
  CHECK(text_of(id.mn).empty());
  set_text(id.mn, "a b");
  id.mn[10] = '\0';
  CHECK(text_of(id.mn) == "a b");
}

TEST_CASE("the longest transfer is in the smallest page, and MDTS 0 is no limit") {
  identify_controller id{};
  CHECK(id.max_transfer_bytes(4096) == 0);
  id.mdts = 5;
  CHECK(id.max_transfer_bytes(4096) == 131072);
  CHECK(id.max_transfer_bytes(65536) == 2097152);
  id.mdts = 255;
  CHECK(id.max_transfer_bytes(4096) == 0);
  id.mdts = 32;
  CHECK(id.max_transfer_bytes(std::uint32_t{4096} << 15) == std::uint64_t{1} << 59);
}

TEST_CASE("the format in use gives the size of a block") {
  identify_namespace ns{};
  ns.nlbaf = 1;
  ns.lbaf[0].lbads = 9;
  ns.lbaf[1].lbads = 12;
  CHECK(ns.block_bytes() == 512);
  ns.flbas = 0x11;  // with metadata inline
  CHECK(ns.format_index() == 1);
  CHECK(ns.block_bytes() == 4096);
}

TEST_CASE("the upper bits of the format index count only with more than 16 formats") {
  identify_namespace ns{};
  ns.flbas = 0x62;
  ns.nlbaf = 15;
  CHECK(ns.format_index() == 2);
  ns.nlbaf = 63;
  CHECK(ns.format_index() == 50);
  ns.flbas = 0x6f;
  CHECK(ns.format_index() == 63);
}

TEST_CASE("a block size that makes no sense is 0") {
  identify_namespace ns{};
  for (const unsigned shift : {0U, 1U, 8U, 32U, 64U, 255U}) {
    ns.lbaf[0].lbads = static_cast<std::uint8_t>(shift);
    CHECK(ns.block_bytes() == 0);
  }
  ns.lbaf[0].lbads = 31;
  CHECK(ns.block_bytes() == 0x8000'0000U);
}

TEST_CASE("a capacity of 128 bits saturates at 64") {
  le_u128 v{.low = 5, .high = 0};
  CHECK(v.saturated() == 5);
  v.high = 1;
  CHECK(v.saturated() == ~std::uint64_t{0});
}

TEST_CASE("a capability is a field of its word") {
  identify_controller id{};
  id.oacs = 0x0188;
  CHECK(identify_controller::oacs_namespaces.get(id.oacs.get()));
  CHECK(identify_controller::oacs_virtualization.get(id.oacs.get()));
  CHECK(identify_controller::oacs_doorbell_buffer.get(id.oacs.get()));
  CHECK_FALSE(identify_controller::oacs_format.get(id.oacs.get()));
  id.sqes = 0x66;
  CHECK(identify_controller::entry_size_required.get(id.sqes) == 6);
}
