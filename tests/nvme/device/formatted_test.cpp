// SPDX-License-Identifier: BSL-1.0
// Metadata and end-to-end protection, Write Uncorrectable and fused Compare and Write, over media that
// are done at once and media that complete later: the same cases for both.
#include <phasebit/nvme/device/formatted_io.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>

#include <random>

#include <doctest/doctest.h>
#include <nvme/device/pool_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

struct fused_policy : device::default_policy {
  static constexpr bool fused_commands = true;
};

constexpr std::size_t media_bytes = pool_media_bytes;

template <class Backing>
struct formatted : machine<fused_policy, Backing> {
  using base = machine<fused_policy, Backing>;

  explicit formatted(const device::namespace_format& f = {}) : base(base::small(), 512) {
    const auto made = this->pool.create(
        device::sizes_of_format(f.index).data_shift == 9 ? media_bytes / 512 : media_bytes / 4096,
        f, false);
    REQUIRE(made.status == success);
    REQUIRE(this->pool.attach(1, 0) == success);
    this->pool.finish(1);
    this->enable();
    this->create(1, 32);
    data = this->allocate(1U << 17);
    meta = this->allocate(1U << 14);
    list = this->page();
    for (std::uint64_t i = 0; i != 31; ++i) {
      store_wire(this->ram.bytes(list + i * 8, 8),
                 le<std::uint64_t>{(data + 4096 * (i + 1)).value()});
    }
  }
  submission_entry with_buffers(submission_entry e) {
    e.prp1 = data.value();
    // A PRP list where there are more than two pages; the test derives that from the block count.
    e.prp2 = big ? list.value() : (data + 4096).value();
    e.mptr = meta.value();
    return e;
  }
  status_code io(submission_entry e, bool more_than_two_pages = false) {
    big = more_than_two_pages;
    return this->io_code(with_buffers(e));
  }
  protection16 tuple(std::uint64_t lba) {
    const auto f = this->pool.at(1).format;
    return load_wire<protection16>(this->pool.metadata(1, lba).subspan(f.tuple_at()));
  }
  std::span<std::byte> block(std::uint64_t lba) {
    const std::size_t bytes = std::size_t{1} << this->pool.at(1).shift;
    return std::span{this->store}.subspan(lba * bytes, bytes);
  }
  void fill(std::uint8_t seed, std::size_t bytes) {
    for (std::size_t i = 0; i != bytes; ++i) {
      *this->ram.at(data + i) = static_cast<std::byte>(seed + i * 7 + i / 256);
    }
  }
  bus_addr data{};
  bus_addr meta{};
  bus_addr list{};
  bool big = false;
};

constexpr prinfo all_checks{
    .action = false, .check_guard = true, .check_application = true, .check_reference = true};

device::namespace_format format_of(std::uint8_t index, protection_type pi, bool extended = false,
                                   bool first = false) {
  return {.index = index,
          .metadata_bytes = device::sizes_of_format(index).metadata_bytes,
          .extended = extended,
          .pi = pi,
          .pi_first = first};
}

}  // namespace

TEST_CASE_TEMPLATE("separate metadata comes back as it was written, in every format", B,
                   pooled_memory, pooled_later) {
  for (const auto index : std::initializer_list<std::uint8_t>{1, 2, 3, 5, 6, 7}) {
    CAPTURE(int{index});
    formatted<B> m{format_of(index, protection_type::none)};
    const auto sizes = device::sizes_of_format(index);
    const std::uint32_t blocks = sizes.data_shift == 9 ? 40 : 5;
    const std::size_t bytes = std::size_t{blocks} << sizes.data_shift;
    m.fill(3, bytes);
    for (std::size_t i = 0; i != blocks * std::size_t{sizes.metadata_bytes}; ++i) {
      *m.ram.at(m.meta + i) = static_cast<std::byte>(i * 11 + 5);
    }
    REQUIRE(m.io(nvm::write({.nsid = 1, .lba = 9, .blocks = blocks}), true) == success);
    CHECK(std::memcmp(m.block(9).data(), m.ram.at(m.data), bytes) == 0);
    const std::vector<std::byte> was(m.ram.at(m.meta), m.ram.at(m.meta) + 4096);
    CHECK(m.io(nvm::compare({.nsid = 1, .lba = 9, .blocks = blocks}), true) == success);
    std::memset(m.ram.at(m.meta), 0, 4096);
    CHECK(m.io(nvm::compare({.nsid = 1, .lba = 9, .blocks = blocks}), true) == compare_failure);
    std::memset(m.ram.at(m.data), 0, bytes);
    REQUIRE(m.io(nvm::read({.nsid = 1, .lba = 9, .blocks = blocks}), true) == success);
    CHECK(std::memcmp(m.block(9).data(), m.ram.at(m.data), bytes) == 0);
    CHECK(std::memcmp(m.ram.at(m.meta), was.data(), blocks * std::size_t{sizes.metadata_bytes}) ==
          0);
    // Without alignment there is no PRP-like pointer.
    auto e = m.with_buffers(nvm::read({.nsid = 1, .lba = 9}));
    e.mptr = e.mptr + 2;
    CHECK(m.io_code(e) == invalid_field);
    e = m.with_buffers(nvm::read({.nsid = 1, .lba = 9}));
    e.mptr = 0x1000;
    CHECK(m.io_code(e) == data_transfer_error);
  }
}

TEST_CASE_TEMPLATE("extended blocks carry their metadata at their end", B, pooled_memory,
                   pooled_later) {
  for (const auto index : std::initializer_list<std::uint8_t>{1, 3, 5, 7}) {
    CAPTURE(int{index});
    formatted<B> m{format_of(index, protection_type::none, true)};
    const auto sizes = device::sizes_of_format(index);
    const std::size_t data = std::size_t{1} << sizes.data_shift;
    const std::size_t each = data + sizes.metadata_bytes;
    const std::uint32_t blocks = 12;
    const bool big = each * blocks > 8192;
    m.fill(1, each * blocks);
    REQUIRE(m.io(nvm::write({.nsid = 1, .lba = 4, .blocks = blocks}), big) == success);
    for (std::size_t i = 0; i != blocks; ++i) {
      CHECK(std::memcmp(m.block(4 + i).data(), m.ram.at(m.data + i * each), data) == 0);
      CHECK(std::memcmp(m.pool.metadata(1, 4 + i).data(), m.ram.at(m.data + i * each + data),
                        sizes.metadata_bytes) == 0);
    }
    const std::vector<std::byte> was(m.ram.at(m.data), m.ram.at(m.data) + each * blocks);
    std::memset(m.ram.at(m.data), 0, each * blocks);
    REQUIRE(m.io(nvm::read({.nsid = 1, .lba = 4, .blocks = blocks}), big) == success);
    CHECK(std::memcmp(m.ram.at(m.data), was.data(), was.size()) == 0);
    // MDTS counts the metadata.
    CHECK(m.io(nvm::read({.nsid = 1, .blocks = 131072U >> sizes.data_shift}), true) ==
          invalid_field);
  }
}

TEST_CASE_TEMPLATE("PRACT inserts tuples on a write and takes them away on a read", B,
                   pooled_memory, pooled_later) {
  for (const auto type : {protection_type::type1, protection_type::type2, protection_type::type3}) {
    for (const bool extended : {false, true}) {
      CAPTURE(static_cast<int>(type));
      formatted<B> m{format_of(1, type, extended)};
      m.fill(9, 4096);
      const auto range = block_range{.nsid = 1,
                                     .lba = 100,
                                     .blocks = 8,
                                     .pi = {.action = true},
                                     .reference_tag = 100,
                                     .application_tag = 0x1234,
                                     .application_mask = 0xffff};
      // No metadata is the host's, so that the pointer is not looked at.
      auto e = m.with_buffers(nvm::write(range));
      e.mptr = 1;
      REQUIRE(m.io_code(e) == success);
      for (std::uint64_t i = 0; i != 8; ++i) {
        const auto t = m.tuple(100 + i);
        CHECK(t.guard == guard16(m.block(100 + i)));
        CHECK(t.application_tag == 0x1234);
        CHECK(t.reference_tag == (type == protection_type::type3 ? 100U : 100U + i));
      }
      auto check = range;
      check.pi = all_checks;
      check.pi.check_reference = type != protection_type::type3;
      check.pi.action = true;
      std::memset(m.ram.at(m.data), 0, 4096);
      CHECK(m.io(nvm::read(check)) == success);
      CHECK(std::memcmp(m.ram.at(m.data), m.block(100).data(), 4096) == 0);
      CHECK(m.io(nvm::verify(check)) == success);
      m.block(103)[5] ^= std::byte{1};
      CHECK(m.io(nvm::read(check)) == guard_check_error);
      CHECK(m.io(nvm::verify(check)) == guard_check_error);
      check.pi.check_guard = false;
      CHECK(m.io(nvm::read(check)) == success);
      check.application_tag = 0x1235;
      CHECK(m.io(nvm::read(check)) == application_tag_check_error);
      check.application_mask = 0xfffe;
      CHECK(m.io(nvm::read(check)) == success);
    }
  }
}

TEST_CASE_TEMPLATE("every check fails for its own reason, in the order of the specification", B,
                   pooled_memory, pooled_later) {
  // Each combination of what is wrong with the tuple, of what is checked, and of type and place.
  for (const auto type : {protection_type::type1, protection_type::type2, protection_type::type3}) {
    for (const bool first : {false, true}) {
      for (const bool extended : {false, true}) {
        formatted<B> m{format_of(2, type, extended, first)};
        const std::size_t each = extended ? 528 : 512;
        const auto metadata_at = [&](std::size_t i) {
          return extended ? m.data + i * each + 512 : m.meta + i * 16;
        };
        for (unsigned wrong = 0; wrong != 8; ++wrong) {
          for (unsigned checked = 0; checked != 8; ++checked) {
            for (const bool escaped : {false, true}) {
              CAPTURE(wrong);
              CAPTURE(checked);
              m.fill(static_cast<std::uint8_t>(wrong), each * 3);
              for (std::size_t i = 0; i != 3; ++i) {
                auto own = m.ram.bytes(metadata_at(i), 16);
                for (std::size_t k = 0; k != 16; ++k) own[k] = static_cast<std::byte>(k + i);
                const std::size_t at = first ? 0 : 8;
                protection16 t{};
                std::uint16_t guard = guard16(m.ram.bytes(m.data + i * each, 512));
                if (!first) guard = guard16(own.first(8), guard);
                const bool bad = i == 1;
                t.guard = static_cast<std::uint16_t>(guard ^ (bad && (wrong & 4U) ? 1U : 0U));
                t.application_tag =
                    escaped ? escape_application_tag
                            : static_cast<std::uint16_t>(0x55 ^ (bad && (wrong & 2U) ? 1U : 0U));
                const std::uint32_t reference =
                    type == protection_type::type3 ? 70U : 70U + static_cast<std::uint32_t>(i);
                t.reference_tag = escaped && type == protection_type::type3
                                      ? 0xffff'ffffU
                                      : reference ^ (bad && (wrong & 1U) ? 0x100U : 0U);
                store_wire(own.subspan(at), t);
              }
              const block_range range{.nsid = 1,
                                      .lba = 70,
                                      .blocks = 3,
                                      .pi = prinfo::of(checked),
                                      .reference_tag = 70,
                                      .application_tag = 0x55,
                                      .application_mask = 0xffff};
              status_code expected = success;
              const unsigned found = escaped ? 0 : wrong & checked;
              if (found & 4U)
                expected = guard_check_error;
              else if (found & 2U)
                expected = application_tag_check_error;
              else if (found & 1U)
                expected = reference_tag_check_error;
              if (type == protection_type::type3 && (checked & 1U)) {
                expected = invalid_protection_information;
              }
              CHECK(m.io(nvm::write(range)) == expected);
              // The same on the way out: stored without a check, read with it.
              auto unchecked = range;
              unchecked.pi = {};
              REQUIRE(m.io(nvm::write(unchecked)) == success);
              CHECK(m.io(nvm::verify(range)) == expected);
              CHECK(m.io(nvm::compare(range)) == expected);
              CHECK(m.io(nvm::read(range)) == expected);
            }
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("type 1 ties the reference tag to the block, type 2 does not", B, pooled_memory,
                   pooled_later) {
  for (const auto type : {protection_type::type1, protection_type::type2}) {
    formatted<B> m{format_of(1, type)};
    const block_range other{
        .nsid = 1, .lba = 5, .pi = {.action = true, .check_reference = true}, .reference_tag = 77};
    CHECK(m.io(nvm::write(other)) ==
          (type == protection_type::type1 ? invalid_protection_information : success));
    if (type == protection_type::type2) CHECK(m.tuple(5).reference_tag == 77);
  }
}

TEST_CASE_TEMPLATE("blocks that were zeroed or deallocated read as zeros whatever is checked", B,
                   pooled_memory, pooled_later) {
  formatted<B> m{format_of(2, protection_type::type1)};
  m.fill(4, 8192);
  const block_range written{.nsid = 1, .lba = 0, .blocks = 16, .pi = {.action = true}};
  REQUIRE(m.io(nvm::write(written)) == success);
  block_range zero{.nsid = 1, .lba = 2, .blocks = 3, .reference_tag = 2};
  REQUIRE(m.io(nvm::write_zeroes(zero)) == success);
  CHECK(m.tuple(2).application_tag == 0xffff);
  zero.pi = all_checks;
  zero.application_mask = 0xffff;
  zero.application_tag = 1;
  CHECK(m.io(nvm::read(zero)) == success);
  CHECK(*m.ram.at(m.data) == std::byte{0});
  // With PRACT the tuples are those of zeros.
  zero.pi = {.action = true};
  REQUIRE(m.io(nvm::write_zeroes(zero, true)) == success);
  CHECK(m.tuple(3).guard == 0);
  CHECK(m.tuple(3).application_tag == 1);
  CHECK(m.tuple(3).reference_tag == 3);
  zero.pi = all_checks;
  CHECK(m.io(nvm::verify(zero)) == success);
  dataset_range r{};
  r.lba = 6;
  r.blocks = 2;
  store_wire(m.ram.bytes(m.data, 16), r);
  REQUIRE(m.io(nvm::dataset_management({.nsid = 1, .deallocate = true})) == success);
  CHECK(m.tuple(5).application_tag == 0);
  CHECK(m.tuple(6).application_tag == 0xffff);
  CHECK(m.tuple(7).application_tag == 0xffff);
  CHECK(m.tuple(8).application_tag == 0);
}

TEST_CASE_TEMPLATE("Copy copies metadata, and checks and generates tuples as its fields request", B,
                   pooled_memory, pooled_later) {
  formatted<B> m{format_of(3, protection_type::type1)};
  m.fill(8, 1U << 15);
  const block_range source{.nsid = 1, .lba = 10, .blocks = 40, .pi = {}, .reference_tag = 10};
  for (std::size_t i = 0; i != 40 * 64; ++i) *m.ram.at(m.meta + i) = static_cast<std::byte>(i);
  auto made = source;
  made.pi.action = true;
  REQUIRE(m.io(nvm::write(made), true) == success);
  const auto copy = [&](prinfo read, prinfo write, std::uint32_t read_tag, std::uint32_t tag) {
    auto range = copy_range::of(10, 40);
    range.reference_tag = read_tag;
    store_wire(m.ram.bytes(m.data, 32), range);
    return m.io(nvm::copy(
        {.nsid = 1, .lba = 1000, .read_pi = read, .write_pi = write, .reference_tag = tag}));
  };
  prinfo act = all_checks;
  act.action = true;
  CHECK(copy(act, {}, 10, 1000) == invalid_field);
  CHECK(copy(all_checks, {}, 11, 1000) == invalid_protection_information);
  CHECK(copy({}, all_checks, 10, 1001) == invalid_protection_information);
  CHECK(copy(all_checks, {}, 10, 0) == success);
  CHECK(m.tuple(1000).reference_tag == 10);  // as they were
  CHECK(copy(act, act, 10, 1000) == success);
  for (std::uint64_t i = 0; i != 40; ++i) {
    CHECK(std::memcmp(m.block(10 + i).data(), m.block(1000 + i).data(), 512) == 0);
    CHECK(std::memcmp(m.pool.metadata(1, 10 + i).data(), m.pool.metadata(1, 1000 + i).data(), 56) ==
          0);
    CHECK(m.tuple(1000 + i).reference_tag == 1000 + i);
  }
  m.block(12)[0] ^= std::byte{1};
  CHECK(copy(act, act, 10, 1000) == guard_check_error);
}

TEST_CASE_TEMPLATE("blocks marked uncorrectable cannot be read until they are written", B,
                   pooled_memory, pooled_later) {
  for (const auto index : std::initializer_list<std::uint8_t>{0, 1, 4}) {
    formatted<B> m{format_of(index, protection_type::none)};
    REQUIRE(m.io(nvm::write_uncorrectable({.nsid = 1, .lba = 8, .blocks = 8})) == success);
    const auto read = [&](std::uint64_t lba, std::uint32_t blocks) {
      return m.io(nvm::read({.nsid = 1, .lba = lba, .blocks = blocks}), index == 4 && blocks > 2);
    };
    CHECK(read(7, 1) == success);
    CHECK(read(7, 2) == unrecovered_read_error);
    CHECK(read(15, 1) == unrecovered_read_error);
    CHECK(read(16, 1) == success);
    CHECK(m.io(nvm::verify({.nsid = 1, .lba = 8})) == unrecovered_read_error);
    CHECK(m.io(nvm::compare({.nsid = 1, .lba = 8})) == unrecovered_read_error);
    store_wire(m.ram.bytes(m.data, 32), copy_range::of(6, 4));
    CHECK(m.io(nvm::copy({.nsid = 1, .lba = 100})) == unrecovered_read_error);
    CHECK(m.io(nvm::write({.nsid = 1, .lba = 9})) == success);
    CHECK(read(9, 1) == success);
    CHECK(read(8, 2) == unrecovered_read_error);
    CHECK(m.io(nvm::write_zeroes({.nsid = 1, .lba = 8, .blocks = 3})) == success);
    CHECK(read(8, 3) == success);
    dataset_range r{};
    r.lba = 11;
    r.blocks = 1;
    store_wire(m.ram.bytes(m.data, 16), r);
    REQUIRE(m.io(nvm::dataset_management({.nsid = 1, .deallocate = true})) == success);
    CHECK(read(11, 1) == success);
    store_wire(m.ram.bytes(m.data, 32), copy_range::of(0, 4));
    REQUIRE(m.io(nvm::copy({.nsid = 1, .lba = 12})) == success);
    CHECK(read(8, 8) == success);
    CHECK(m.io(nvm::write_uncorrectable({.nsid = 1, .lba = 1U << 20})) == lba_out_of_range);
  }
}

namespace {

template <class M>
std::pair<status_code, status_code> fused_pair(M& m, submission_entry first,
                                               submission_entry second) {
  first = m.with_buffers(first);
  second = m.with_buffers(second);
  second.prp1 = m.data.value() + 8192;
  first.set_fuse(fused::first);
  second.set_fuse(fused::second);
  m.push(1, first, 1);
  m.push(1, second, 2);
  m.ring_tail(1, m.pairs[1].tail);
  std::optional<completion_entry> a;
  std::optional<completion_entry> b;
  for (int i = 0; i != 16 && !b; ++i) {
    m.controller.poll();
    if (!a) a = m.reap(1);
    if (a && !b) b = m.reap(1);
  }
  REQUIRE(b);
  CHECK(a->command_id() == 1);
  CHECK(b->command_id() == 2);
  return {a->status().code(), b->status().code()};
}

}  // namespace

TEST_CASE_TEMPLATE("Compare and Write writes where the comparison holds, and only there", B,
                   pooled_memory, pooled_later) {
  for (const auto index : std::initializer_list<std::uint8_t>{0, 2}) {
    formatted<B> m{format_of(index, protection_type::none)};
    std::memset(m.ram.at(m.data), 0, 1024);
    std::memset(m.ram.at(m.data + 8192), 0x77, 1024);
    std::memset(m.ram.at(m.meta), 0, 4096);
    std::fill(m.metadata.begin(), m.metadata.end(), std::byte{0});
    const block_range range{.nsid = 1, .lba = 3, .blocks = 2};
    const auto good = fused_pair(m, nvm::compare(range), nvm::write(range));
    CHECK(good == std::pair{success, success});
    CHECK(m.block(4)[511] == std::byte{0x77});
    const auto bad = fused_pair(m, nvm::compare(range), nvm::write(range));
    CHECK(bad == std::pair{compare_failure, aborted_failed_fused});
    auto other = range;
    other.lba = 4;
    CHECK(fused_pair(m, nvm::compare(range), nvm::write(other)) ==
          std::pair{invalid_field, invalid_field});
    other = range;
    other.blocks = 1;
    CHECK(fused_pair(m, nvm::compare(range), nvm::write(other)) ==
          std::pair{invalid_field, invalid_field});
    CHECK(fused_pair(m, nvm::write(range), nvm::write(range)) ==
          std::pair{invalid_field, invalid_field});
  }
}

TEST_CASE_TEMPLATE("half of a fused pair is aborted, and the command beside it is not", B,
                   pooled_memory, pooled_later) {
  formatted<B> m;
  auto first = m.with_buffers(nvm::compare({.nsid = 1}));
  first.set_fuse(fused::first);
  auto second = m.with_buffers(nvm::write({.nsid = 1}));
  second.set_fuse(fused::second);
  CHECK(m.io_code(first) == aborted_missing_fused);
  CHECK(m.io_code(second) == aborted_missing_fused);
  m.push(1, first, 1);
  m.push(1, nvm::flush(1), 2);
  m.ring_tail(1, m.pairs[1].tail);
  for (int i = 0; i != 4; ++i) m.controller.poll();
  const auto a = m.reap(1);
  const auto b = m.reap(1);
  REQUIRE(b);
  CHECK(a->status() == aborted_missing_fused);
  CHECK(b->status().ok());
  auto neither = first;
  neither.set_fuse(static_cast<fused>(3));
  CHECK(m.io_code(neither) == invalid_field);
  // Identify reports Compare and Write.
  REQUIRE(m.admin_code(with_data(admin::identify({}), m.data)) == success);
  const auto id = load_wire<identify_controller>(m.ram.bytes(m.data, 4096));
  CHECK(id.fuses == 1);
  CHECK(identify_controller::oncs_write_uncorrectable.get(id.oncs.get()));
}

TEST_CASE("a write waits for a fused pair on its blocks, and a pair for a write") {
  formatted<pooled_later> m;
  m.media.plan().fixed = {.delay = block::media_fate::held};
  std::memset(m.ram.at(m.data + 8192), 0x11, 512);
  auto compare = m.with_buffers(nvm::compare({.nsid = 1, .lba = 3}));
  auto write = m.with_buffers(nvm::write({.nsid = 1, .lba = 3}));
  write.prp1 = m.data.value() + 8192;
  compare.set_fuse(fused::first);
  write.set_fuse(fused::second);
  m.push(1, compare, 1);
  m.push(1, write, 2);
  auto other = m.with_buffers(nvm::write({.nsid = 1, .lba = 2, .blocks = 3}));
  std::memset(m.ram.at(m.data + 16384), 0x22, 4096);
  other.prp1 = m.data.value() + 16384;
  m.push(1, other, 3);
  // One beside them does not wait.
  auto beside = other;
  beside.cdw10 = 8;
  m.push(1, beside, 4);
  m.ring_tail(1, m.pairs[1].tail);
  m.controller.poll();
  CHECK(m.media.in_flight() == 2);
  // The comparison ends; the write of the pair goes before the one that waits.
  m.media.release_all();
  m.controller.poll();
  m.media.release_all();
  m.media.plan().fixed = {};
  for (int i = 0; i != 8; ++i) m.controller.poll();
  std::vector<unsigned> order;
  while (const auto c = m.reap(1)) {
    CHECK(c->status().ok());
    order.push_back(c->command_id());
  }
  CHECK(order.size() == 4);
  CHECK(order.back() == 3);
  CHECK(m.block(3)[0] == std::byte{0x22});
}

TEST_CASE("reads and writes of blocks with metadata never see half of each other") {
  // The media reorders; each block's guard belongs to its own data.
  formatted<pooled_later> m{format_of(1, protection_type::type1)};
  m.media.plan().random.emplace(block::random_media_plan{.state = 5, .longest = 4});
  std::mt19937 random{7};
  unsigned seen = 0;
  unsigned submitted = 0;
  for (int round = 0; round != 600; ++round) {
    if (submitted - seen < 20) {
      const auto lba = static_cast<std::uint32_t>(random() % 6);
      const auto blocks = static_cast<std::uint32_t>(random() % 3 + 1);
      const bool writing = random() % 2 != 0;
      const block_range r{
          .nsid = 1,
          .lba = lba,
          .blocks = blocks,
          .pi = writing ? prinfo{.action = true} : prinfo{.action = true, .check_guard = true},
          .reference_tag = lba};
      auto e = writing ? nvm::write(r) : nvm::read(r);
      e.prp1 = (m.data + 4096 * (submitted % 24)).value();
      if (writing) std::memset(m.ram.at(m.data + 4096 * (submitted % 24)), round, 2048);
      m.submit(1, e, static_cast<std::uint16_t>(submitted++));
    }
    m.controller.poll();
    while (const auto c = m.reap(1)) {
      ++seen;
      CHECK(c->status().code() == success);
    }
  }
  for (int i = 0; i != 200; ++i) m.controller.poll();
  while (m.reap(1)) ++seen;
  CHECK(seen == submitted);
  CHECK(m.bounce.available() == m.bounce.capacity());
}
