// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/spec/status.hpp>
#include <phasebit/nvme/spec/status_text.hpp>

#include <cstdint>
#include <map>
#include <string_view>

#include <doctest/doctest.h>

using namespace phasebit::nvme;

TEST_CASE("a default status is success") {
  CHECK(status{}.ok());
  CHECK(status{} == status_code::success);
  CHECK(status{}.raw() == 0);
}

TEST_CASE("a status splits into type and code") {
  constexpr status s = status_code::invalid_queue_id;
  CHECK(s.sct() == status_type::command_specific);
  CHECK(s.sc() == 0x01);
  CHECK_FALSE(s.ok());
  CHECK(status{status_code::compare_failure}.sct() == status_type::media);
  CHECK(status{status_code::aborted_by_host}.sct() == status_type::path);
}

TEST_CASE("a code compares equal whatever the retry bits are, two statuses do not") {
  const status s = status{status_code::lba_out_of_range}.with_dnr().with_more();
  CHECK(s == status_code::lba_out_of_range);
  CHECK(s != status{status_code::lba_out_of_range});
  CHECK(s.raw() == 0x6080);
  CHECK(s.dnr());
  CHECK(s.more());
  CHECK(s.code() == status_code::lba_out_of_range);
  CHECK(status{0x1000}.crd() == 2);
}

TEST_CASE("DNR with code 0 is still success") { CHECK(status{0x4000}.ok()); }

TEST_CASE("the bit above the fifteen of a status is dropped") {
  CHECK(status{std::uint16_t{0xffff}}.raw() == 0x7fff);
}

TEST_CASE("the codes that a bad queue command meets have the published numbers") {
  CHECK(status{status_code::completion_queue_invalid}.raw() == 0x100);
  CHECK(status{status_code::invalid_queue_size}.raw() == 0x102);
  CHECK(status{status_code::async_event_limit_exceeded}.raw() == 0x105);
  CHECK(status{status_code::invalid_interrupt_vector}.raw() == 0x108);
  CHECK(status{status_code::invalid_queue_deletion}.raw() == 0x10c);
  CHECK(status{status_code::prp_offset_invalid}.raw() == 0x013);
  CHECK(status{status_code::command_sequence_error}.raw() == 0x00c);
  CHECK(status{status_code::invalid_controller_id}.raw() == 0x11f);
  CHECK(status{status_code::invalid_secondary_controller_state}.raw() == 0x120);
  CHECK(status{status_code::invalid_controller_resource_count}.raw() == 0x121);
  CHECK(status{status_code::invalid_resource_id}.raw() == 0x122);
}

TEST_CASE("every status a device can write has a sentence") {
  for (unsigned raw = 0; raw != 0x8000; ++raw) {
    const auto s = status{static_cast<std::uint16_t>(raw)};
    REQUIRE_FALSE(text(s).empty());
    REQUIRE(text(s).back() != '.');
  }
}

TEST_CASE("no two known statuses share a sentence") {
  std::map<std::string_view, unsigned> seen;
  unsigned known = 0;
  for (unsigned raw = 0; raw != 0x700; ++raw) {
    const std::string_view sentence = text(status{static_cast<std::uint16_t>(raw)});
    if (sentence.find("unknown") != sentence.npos || sentence.find("reserved") != sentence.npos) {
      continue;
    }
    ++known;
    CAPTURE(raw);
    CHECK(seen.emplace(sentence, raw).second);
  }
  CHECK(known >= 100);
}

TEST_CASE("a sentence is there at compile time and ignores the retry bits") {
  static_assert(text(status_code::success) == "the command completed");
  CHECK(text(status{status_code::write_fault}.with_dnr()) == text(status_code::write_fault));
  CHECK(text(status{std::uint16_t{0x2ff}}) == "an unknown media or data integrity error");
  CHECK(text(status{std::uint16_t{0x4ff}}) == "a status of a reserved type");
  CHECK(text(status{std::uint16_t{0x7aa}}) == "a status that the vendor defined");
}
