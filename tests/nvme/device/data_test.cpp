// SPDX-License-Identifier: BSL-1.0
// Data by PRPs and SGLs that a hostile or merely unusual host writes.
#include <phasebit/nvme/device/block_moves.hpp>
#include <phasebit/nvme/device/data_transfer.hpp>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

struct started : machine<> {
  started() {
    enable();
    create(1, 16);
    buffer = allocate(1U << 18);
    segment = page();
    for (std::size_t i = 0; i != store.size(); ++i) {
      store[i] = static_cast<std::byte>(i * 7 + (i >> 9));
    }
  }
  void describe(std::size_t i, sgl_type type, bus_addr where, std::uint32_t bytes) {
    store_wire(ram.bytes(segment + i * 16, 16), sgl_descriptor::of(type, where, bytes));
  }
  status_code run_sgl(submission_entry e, const sgl_descriptor& first) {
    e.set_sgl(first);
    return io_code(e);
  }
  status_code read_list(std::uint32_t blocks, std::uint32_t descriptors, std::uint64_t lba = 5) {
    return run_sgl(nvm::read({.nsid = 1, .lba = lba, .blocks = blocks}),
                   sgl_descriptor::of(sgl_type::last_segment, segment, descriptors * 16));
  }
  bus_addr buffer{};
  bus_addr segment{};
};

}  // namespace

TEST_CASE("a data block SGL moves the same bytes as PRPs do, at any address") {
  started m;
  for (const std::uint32_t offset : {0U, 1U, 511U, 4095U}) {
    std::memset(m.ram.at(m.buffer), 0, 1U << 16);
    CHECK(m.run_sgl(nvm::read({.nsid = 1, .lba = 5, .blocks = 20}),
                    sgl_descriptor::of(sgl_type::data_block, m.buffer + offset, 10240)) == success);
    CHECK(std::memcmp(m.ram.at(m.buffer + offset), m.store.data() + 5 * 512, 10240) == 0);
    CHECK(m.ram.at(m.buffer + offset)[10240] == std::byte{0});
  }
}

TEST_CASE("SGL segments of any length, with blocks across them, and bit buckets") {
  started m;
  m.describe(0, sgl_type::data_block, m.buffer, 100);
  m.describe(1, sgl_type::bit_bucket, {}, 500);
  m.describe(2, sgl_type::data_block, m.buffer + 9001, 1);
  m.describe(3, sgl_type::data_block, {}, 0);
  m.describe(4, sgl_type::bit_bucket, {}, 1024 - 601);
  m.describe(5, sgl_type::data_block, m.buffer + 20000, 1024);
  CHECK(m.read_list(4, 6) == success);
  const std::byte* const disk = m.store.data() + 5 * 512;
  CHECK(std::memcmp(m.ram.at(m.buffer), disk, 100) == 0);
  CHECK(m.ram.at(m.buffer)[100] == std::byte{0});
  CHECK(*m.ram.at(m.buffer + 9001) == disk[600]);
  CHECK(std::memcmp(m.ram.at(m.buffer + 20000), disk + 1024, 1024) == 0);

  // The same segments in the other direction.
  auto e = nvm::compare({.nsid = 1, .lba = 5, .blocks = 1});
  m.describe(0, sgl_type::data_block, m.buffer + 20000, 512);
  e.cdw10 = 7;
  CHECK(m.run_sgl(e, sgl_descriptor::of(sgl_type::last_segment, m.segment, 16)) == success);
  e.cdw10 = 8;
  CHECK(m.run_sgl(e, sgl_descriptor::of(sgl_type::last_segment, m.segment, 16)) == compare_failure);
}

TEST_CASE("SGLs that are broken end with the status that names the fault") {
  started m;
  using enum sgl_type;
  m.describe(0, data_block, m.buffer, 512);
  CHECK(m.read_list(1, 1) == success);
  CHECK(m.read_list(2, 1) == data_sgl_length_invalid);
  m.describe(0, static_cast<sgl_type>(9), m.buffer, 512);
  CHECK(m.read_list(1, 1) == sgl_descriptor_type_invalid);
  const auto read = nvm::read({.nsid = 1});
  CHECK(m.run_sgl(read, sgl_descriptor::of(last_segment, m.segment, 0)) ==
        invalid_sgl_segment_descriptor);
  CHECK(m.run_sgl(read, sgl_descriptor::of(last_segment, m.segment, 15)) ==
        invalid_sgl_segment_descriptor);
  CHECK(m.run_sgl(read, sgl_descriptor::of(last_segment, bus_addr{8}, 16)) == data_transfer_error);
  CHECK(m.run_sgl(read, sgl_descriptor::of(data_block, bus_addr{8}, 512)) == data_transfer_error);
  // A segment that leads to itself, with no data and with too little.
  m.describe(0, segment, m.segment, 16);
  m.ram.translations = 0;
  CHECK(m.run_sgl(read, sgl_descriptor::of(segment, m.segment, 16)) ==
        invalid_sgl_descriptor_count);
  m.describe(0, bit_bucket, {}, 0);
  m.describe(1, segment, m.segment, 32);
  CHECK(m.run_sgl(read, sgl_descriptor::of(segment, m.segment, 32)) ==
        invalid_sgl_descriptor_count);
  CHECK(m.ram.translations < 4 * device::max_sgl_descriptors);
}

TEST_CASE("SGLs are refused by a controller that does not offer them") {
  auto s = machine<>::small();
  s.scatter_gather_lists = false;
  machine m{s};
  m.enable();
  m.create(1, 8);
  auto e = nvm::read({.nsid = 1});
  e.set_sgl(sgl_descriptor::of(sgl_type::data_block, m.page(), 512));
  CHECK(m.io_code(e) == invalid_field);
}

TEST_CASE("a PRP list that leads to itself ends, having moved what the command is for") {
  auto s = machine<>::small();
  s.mdts = 0;
  machine m{s, 4096};
  m.enable();
  m.create(1, 8);
  const bus_addr data = m.page();
  const bus_addr list = m.page();
  for (std::uint64_t i = 0; i != 512; ++i) {
    store_wire(m.ram.bytes(list + i * 8, 8),
               le<std::uint64_t>{i == 511 ? list.value() : data.value()});
  }
  // 256 pages of 4 KiB are all the disk has: one list would do; begin at its end so that it links.
  m.ram.translations = 0;
  CHECK(m.io_code(with_data(nvm::read({.nsid = 1, .blocks = 256}), data, list + 511 * 8)) ==
        success);
  CHECK(m.ram.translations < 1000);
}

TEST_CASE("what is skipped of a read is not read, and what follows is the right block") {
  struct counting : block::memory_media {
    using memory_media::memory_media;
    unsigned reads = 0;
    block::media_status read(std::uint64_t lba, std::span<std::byte> to) noexcept {
      ++reads;
      return memory_media::read(lba, to);
    }
  };
  std::vector<std::byte> store(16 * 512);
  for (std::size_t i = 0; i != store.size(); ++i) store[i] = static_cast<std::byte>(i / 2);
  device::block_buffer buffer;
  for (const std::uint64_t first : {0U, 1U, 511U, 512U, 600U, 1024U}) {
    for (const std::uint64_t skipped : {0U, 1U, 100U, 511U, 512U, 1500U, 4096U}) {
      counting media{store};
      device::block_read move{media, buffer, 2};
      std::vector<std::byte> head(first);
      std::vector<std::byte> tail(300);
      CHECK(move(head) == success);
      CHECK(move.skip(skipped) == success);
      CHECK(move(tail) == success);
      CHECK(std::memcmp(tail.data(), store.data() + 1024 + first + skipped, 300) == 0);
      CHECK(media.reads <= 5);
    }
  }
}

TEST_CASE("media that fail are the media's errors, and are counted") {
  struct failing : block::memory_media {
    using memory_media::memory_media;
    block::media_status outcome = block::media_status::good;
    block::media_status read(std::uint64_t lba, std::span<std::byte> to) noexcept {
      return outcome == block::media_status::good ? memory_media::read(lba, to) : outcome;
    }
    block::media_status write(std::uint64_t lba, std::span<const std::byte> from) noexcept {
      return outcome == block::media_status::good ? memory_media::write(lba, from) : outcome;
    }
    block::media_status flush() noexcept { return outcome; }
  };
  using block::media_status;
  for (const auto& [outcome, expected] :
       {std::pair{media_status::read_failed, unrecovered_read_error},
        {media_status::write_failed, write_fault},
        {media_status::read_only, write_to_read_only_range},
        {media_status::no_space, capacity_exceeded},
        {media_status::out_of_range, lba_out_of_range}}) {
    CHECK(device::status_of(outcome) == expected);
  }
  CHECK(device::status_of(media_status::good) == success);

  memory ram{1U << 20};
  interrupts irq;
  std::vector<std::byte> store(8192);
  failing media{store};
  device::single_namespace<failing> spaces{media};
  std::vector<std::uint32_t> words(4);
  device::settings s;
  device::controller_state<memory, interrupts, device::single_namespace<failing>, thread_order,
                           device::default_policy>
      state{ram, irq, spaces, words, s, {}};
  state.set_group(0, {&spaces, {}});
  device::io_handlers io{state, state.groups[0]};
  const auto on = [&](submission_entry e) {
    e.prp1 = memory::base;
    return io.execute(e).status;
  };
  CHECK(on(nvm::write({.nsid = 1, .fua = true})).ok());
  media.outcome = media_status::read_failed;
  CHECK(on(nvm::read({.nsid = 1})) == unrecovered_read_error);
  CHECK(on(nvm::verify({.nsid = 1})) == unrecovered_read_error);
  CHECK(on(nvm::compare({.nsid = 1})) == unrecovered_read_error);
  media.outcome = media_status::write_failed;
  CHECK(on(nvm::write({.nsid = 1})) == write_fault);
  CHECK(on(nvm::flush(1)) == write_fault);
  CHECK(on(nvm::flush(all_namespaces)) == write_fault);
  CHECK(state.groups[0].health.media_errors == 6);
}
