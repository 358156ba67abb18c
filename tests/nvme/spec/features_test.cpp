// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/spec/async_event.hpp>
#include <phasebit/nvme/spec/features.hpp>
#include <phasebit/nvme/spec/log_pages.hpp>
#include <phasebit/nvme/spec/protection.hpp>

#include <cstddef>
#include <cstdint>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::nvme;

TEST_CASE("the number of queues is minus one both ways") {
  CHECK(number_of_queues::of(1, 1).raw == 0);
  CHECK(number_of_queues::of(65535, 2).raw == 0x0001'fffe);
  CHECK(number_of_queues{0x003f'007f}.submission_queues() == 128);
  CHECK(number_of_queues{0x003f'007f}.completion_queues() == 64);
  CHECK(number_of_queues{0xffff'ffff}.completion_queues() == 65536);
}

TEST_CASE("feature dwords have their fields where the specification prints them") {
  CHECK(arbitration{}.with(arbitration::ab, 7).with(arbitration::hpw, 1).raw == 0x0100'0007);
  CHECK(volatile_write_cache{1}[volatile_write_cache::wce]);
  CHECK(interrupt_coalescing{0x0a07}[interrupt_coalescing::thr] == 7);
  CHECK(interrupt_coalescing{0x0a07}[interrupt_coalescing::time] == 10);
  CHECK(interrupt_vector_configuration{0x1'0003}[interrupt_vector_configuration::cd]);
  CHECK(temperature_threshold{}
            .with(temperature_threshold::tmpth, 350)
            .with(temperature_threshold::thsel, 1)
            .raw == (350U | 1U << 20));
  CHECK(
      async_event_configuration{}.with(async_event_configuration::namespace_attributes, true).raw ==
      0x100);
  CHECK(host_memory_buffer{}.with(host_memory_buffer::ehm, true).raw == 1);
}

TEST_CASE("a timestamp is 48 bits of milliseconds, least significant first") {
  const auto t = timestamp::of(0x0123'4567'89ab);
  CHECK(t.milliseconds[0] == 0xab);
  CHECK(t.milliseconds[5] == 0x01);
  CHECK(t.value() == 0x0123'4567'89abULL);
  CHECK(timestamp::of(~std::uint64_t{0}).value() == 0xffff'ffff'ffffULL);
}

TEST_CASE("the composite temperature is read from an odd offset") {
  health_log log{};
  log.composite_temperature[0] = 0x2c;
  log.composite_temperature[1] = 0x01;
  CHECK(log.temperature_kelvin() == 300);
  CHECK(wire_bytes(log)[1] == std::byte{0x2c});
}

TEST_CASE("asynchronous events are the dwords that controllers send") {
  CHECK(async_event::of(error_event::invalid_doorbell_value).raw == 0x0001'0100);
  CHECK(async_event::of(error_event::invalid_doorbell).raw == 0x0001'0000);
  CHECK(async_event::of(health_event::temperature).raw == 0x0002'0101);
  CHECK(async_event::of_namespace_change().raw == 0x0004'0002);
  const async_event e{0x0001'0100};
  CHECK(e.type() == async_event_type::error);
  CHECK(e.information() == 1);
  CHECK(e.log_page() == log_page_id::error_information);
}

TEST_CASE("protection information is big-endian") {
  protection16 p{};
  p.guard = 0x1234;
  p.application_tag = 0x5678;
  p.reference_tag = 0x9abc'def0;
  const auto bytes = wire_bytes(p);
  CHECK(bytes[0] == std::byte{0x12});
  CHECK(bytes[3] == std::byte{0x78});
  CHECK(bytes[4] == std::byte{0x9a});
  CHECK(bytes[7] == std::byte{0xf0});
}

TEST_CASE("tags of 48 bits are stored and loaded whole") {
  protection64 p{};
  store_be(p.storage_and_reference, 6, 0x0102'0304'0506);
  CHECK(p.storage_and_reference[0] == 1);
  CHECK(p.storage_and_reference[5] == 6);
  CHECK(load_be(p.storage_and_reference, 6) == 0x0102'0304'0506ULL);
  CHECK(protection_bytes(guard_format::bits16) == 8);
  CHECK(protection_bytes(guard_format::bits64) == 16);
}
