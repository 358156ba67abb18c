// SPDX-License-Identifier: BSL-1.0
// Random commands of every kind against a controller that completes in any order and twice, completes ids that
// are not in flight, refuses commands and deletions of queues, is reset, and whose link flaps. The contents of
// every block are known; each command ends exactly once, and each read is compared.
//
// PHASEBIT_RANDOM_COMMANDS sets how many commands there are.
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>
#include <phasebit/testing/nvme_quirks.hpp>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::nvme;
using namespace phasebit::nvme::driver;
using testing::nvme_quirk_function;

namespace {

using controller_type = controller<nvme_quirk_function>;
using queue_type = controller_type::io_queue<std::uint32_t, 64>;

class small_random {
 public:
  explicit small_random(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint32_t operator()() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::uint32_t>(state_ >> 33);
  }
  std::uint32_t below(std::uint32_t n) { return (*this)() % n; }

 private:
  std::uint64_t state_;
};

enum class kind : std::uint8_t {
  read,
  write,
  compare,
  compare_other,  // with other bytes than are there
  write_zeroes,
  deallocate,
  copy,
  verify,
  flush,
  out_of_range,
  unknown_opcode
};

// The contents of a block: a seed of its bytes, zeros, or undefined.
constexpr std::uint32_t zeros = 0;
constexpr std::uint32_t unknown = ~0U;

void fill(std::span<std::byte> block, std::uint32_t seed) {
  std::uint64_t word = seed == zeros ? 0 : seed * 0x9e37'79b9'7f4a'7c15ULL;
  const std::uint64_t step = seed == zeros ? 0 : 0x1234'5678'9abc'def1ULL;
  for (std::size_t at = 0; at != block.size(); at += 8, word += step) {
    std::memcpy(block.data() + at, &word, 8);
  }
}

class soak {
 public:
  static constexpr std::size_t slots = 96;  // commands that may be in flight in all
  static constexpr std::size_t buffer_bytes = 24U << 10;
  static constexpr std::uint32_t queues = 3;

  explicit soak(std::uint64_t seed) : random_(seed) {
    f_.namespaces.clear();
    for (const auto& [shift, bytes, in_line, type] :
         {std::tuple{9, 0, false, protection_type::none},
          {12, 0, false, protection_type::none},
          {9, 8, false, protection_type::none},
          {9, 8, true, protection_type::none},
          {9, 64, true, protection_type::none},
          {9, 8, false, protection_type::type1},
          {9, 8, true, protection_type::type3}}) {
      testing::nvme_quirk_namespace n;
      n.block_shift = static_cast<std::uint8_t>(shift);
      n.metadata_bytes = static_cast<std::uint16_t>(bytes);
      n.metadata_inline = in_line;
      n.protection = type;
      n.data = std::vector<std::byte>(blocks_of_each << shift);
      f_.namespaces.push_back(std::move(n));
      content_.emplace_back(blocks_of_each, zeros);
      busy_.emplace_back(blocks_of_each, false);
    }
    // Tuples that no command has made yet do not count.
    for (auto& n : f_.namespaces) {
      n.metadata.assign(n.blocks() * n.metadata_bytes,
                        n.protection != protection_type::none ? std::byte{0xff} : std::byte{0});
    }
    auto host = controller_type::attach(f_, {.io_queues = queues});
    REQUIRE(host);
    host_.emplace(std::move(*host));
    f_.plan.reorder = true;
    f_.plan.duplicate_every = 7;
    f_.plan.duplicate_delay = 30;
    f_.plan.unknown_id_every = 11;
    f_.plan.fail_every = 101;
    auto memory = allocate(f_, slots * buffer_bytes);
    REQUIRE(memory);
    memory_.emplace(std::move(*memory));
    for (std::uint32_t i = 0; i != slots; ++i) {
      commands_[i].buffer = (*memory_)->subregion(i * buffer_bytes, buffer_bytes);
      free_.push_back(i);
    }
    open_all();
  }

  void run(std::uint64_t wanted) {
    while (posted_ < wanted) {
      const std::uint32_t what = random_.below(100'000);
      if (what < 3) {
        reset();
      } else if (what < 40) {
        replace_queue();
      } else if (what < 200) {
        admin();
      } else if (what < 45'000) {
        post();
      } else if (what < 65'000) {
        queue_[random_.below(queues)]->ring();
      } else if (what < 80'000) {
        f_.step();
      } else {
        poll(random_.below(queues));
      }
    }
    for (std::uint32_t turns = 0; in_flight() != 0; ++turns) {
      REQUIRE(turns < 10'000);
      for (std::uint32_t q = 0; q != queues; ++q) {
        queue_[q]->ring();
        poll(q);
      }
      f_.step();
    }
    CHECK(free_.size() == slots);
    CHECK(f_.stray_accesses == 0);
    CHECK(unexpected_ > wanted / 20);
    CHECK(compared_ > wanted / 10);
    // At the end the device contains the written data.
    for (std::size_t n = 0; n != f_.namespaces.size(); ++n) {
      const auto& ns = f_.namespaces[n];
      const std::size_t block = std::size_t{1} << ns.block_shift;
      std::vector<std::byte> expected(block);
      for (std::uint64_t lba = 0; lba != blocks_of_each; ++lba) {
        if (content_[n][lba] == unknown) continue;
        fill(expected, content_[n][lba]);
        REQUIRE(std::memcmp(expected.data(), ns.data.data() + lba * block, block) == 0);
      }
    }
  }

 private:
  static constexpr std::uint64_t blocks_of_each = 512;

  struct command {
    dma_region buffer{};
    dma_region data{};
    kind what = kind::flush;
    bool in_flight = false;
    std::uint32_t ns = 0;  // index
    std::uint64_t lba = 0;
    std::uint64_t from = 0;  // of a copy
    std::uint32_t blocks = 0;
    std::uint32_t seed = 0;
  };

  [[nodiscard]] std::size_t in_flight() const { return slots - free_.size(); }
  void open(std::uint32_t q) {
    auto made = host_->create_queue_pair(
        {.depth = 2 + random_.below(62), .nsid = random_.below(2) * (1 + random_.below(7))},
        tokens<std::uint32_t, 64>);
    REQUIRE(made);
    queue_[q].emplace(std::move(*made));
  }
  void open_all() {
    for (std::uint32_t i = 0; i != f_.namespaces.size(); ++i) {
      const auto info = host_->identify_namespace(i + 1);
      REQUIRE(info);
      infos_[i] = *info;
    }
    for (std::uint32_t q = 0; q != queues; ++q) open(q);
  }

  void poll(std::uint32_t q) {
    const auto before = queue_[q]->unexpected_completions();
    (void)queue_[q]->poll([&](std::uint32_t& token, completion c) noexcept { ended(token, c); },
                          random_.below(4) == 0 ? random_.below(5) : ~0U);
    unexpected_ += queue_[q]->unexpected_completions() - before;
  }
  // All commands in flight end with their completion or with an abort.
  void replace_queue() {
    const std::uint32_t q = random_.below(queues);
    if (random_.below(2) == 0) {
      f_.plan.refuse_opcode = static_cast<std::uint8_t>(
          random_.below(2) == 0 ? admin_opcode::delete_io_cq : admin_opcode::delete_io_sq);
      f_.plan.refuse_times = 1;
    }
    const auto end = [&](std::uint32_t& token, completion c) noexcept { ended(token, c); };
    if (!host_->delete_queue_pair(*queue_[q], end)) {
      REQUIRE(f_.plan.refuse_times == 0);
      REQUIRE(host_->delete_queue_pair(*queue_[q], end));
    }
    f_.plan.refuse_times = 0;
    queue_[q].reset();
    open(q);
  }
  void reset() {
    REQUIRE(host_->reset());
    for (auto& q : queue_) {
      (void)q->poll([&](std::uint32_t& token, completion c) noexcept { ended(token, c); });
      q.reset();
    }
    REQUIRE(in_flight() == 0);
    open_all();
  }
  // Commands that share the admin queue's time, and registers of a link that flaps.
  void admin() {
    switch (random_.below(6)) {
      case 0:
        // An admin completion that was not asked for is reported; a flap is not taken for removal.
        f_.plan.ones_for_reads = 1;
        if (const auto well = host_->check(); !well) CHECK(well.error().code == errc::protocol);
        break;
      case 1: {
        f_.plan.fatal_for_reads = 1;
        const auto fatal = host_->check();
        REQUIRE_FALSE(fatal);
        CHECK(fatal.error().code == errc::protocol);
        break;
      }
      case 2:
        f_.plan.ones_for_reads = random_.below(3);
        CHECK(host_->identify_namespace(1 + random_.below(7)));
        break;
      case 3: {
        std::array<std::byte, 64> log{};
        CHECK(host_->get_log_page(log_page_id::error_information, log));
        break;
      }
      case 4:
        f_.report_event(0x0000'0100);
        host_->poll();
        while (host_->next_event()) {
        }
        break;
      default:
        CHECK(host_->execute(nvme::admin::keep_alive()));
        break;
    }
    f_.plan.ones_for_reads = f_.plan.fatal_for_reads = 0;
  }

  [[nodiscard]] std::optional<std::uint64_t> take_range(std::uint32_t ns, std::uint32_t blocks) {
    const std::uint64_t lba = random_.below(static_cast<std::uint32_t>(blocks_of_each) - blocks);
    for (std::uint32_t i = 0; i != blocks; ++i) {
      if (busy_[ns][lba + i]) return std::nullopt;
    }
    mark(ns, lba, blocks, true);
    return lba;
  }
  void mark(std::uint32_t ns, std::uint64_t lba, std::uint32_t blocks, bool taken) {
    for (std::uint32_t i = 0; i != blocks; ++i) busy_[ns][lba + i] = taken;
  }

  void post();
  void ended(std::uint32_t token, completion c) noexcept;

  small_random random_;
  nvme_quirk_function f_;
  std::optional<controller_type> host_;
  std::optional<dma_buffer<nvme_quirk_function>> memory_;
  std::array<std::optional<queue_type>, queues> queue_;
  std::array<namespace_info, 7> infos_{};
  std::array<command, slots> commands_{};
  std::vector<std::uint32_t> free_;
  std::vector<std::vector<std::uint32_t>> content_;
  std::vector<std::vector<bool>> busy_;
  std::uint64_t posted_ = 0;
  std::uint64_t unexpected_ = 0;
  std::uint64_t compared_ = 0;
  std::uint32_t next_seed_ = 1;
};

void soak::post() {
  if (free_.empty()) return;
  auto& queue = *queue_[random_.below(queues)];
  if (queue.available() == 0) return;
  const std::uint32_t token = free_.back();
  command& c = commands_[token];
  // Tuples are expensive to compute, so that there are fewer of them.
  c.ns = random_.below(20) == 0 ? 5 + random_.below(2) : random_.below(5);
  const namespace_info& ns = infos_[c.ns];
  const std::uint32_t most = random_.below(8) != 0 ? 3 : ns.block_shift == 12 ? 5 : 40;
  c.blocks = 1 + random_.below(most);
  constexpr kind often[] = {kind::read,         kind::read,          kind::read,
                            kind::write,        kind::write,         kind::write,
                            kind::compare,      kind::compare_other, kind::verify,
                            kind::write_zeroes, kind::deallocate,    kind::copy,
                            kind::flush,        kind::out_of_range,  kind::unknown_opcode};
  c.what = often[random_.below(std::size(often))];
  if (c.what == kind::copy && ns.is_protected()) c.what = kind::read;
  c.seed = next_seed_;
  c.from = 0;
  const bool ranged =
      c.what != kind::flush && c.what != kind::out_of_range && c.what != kind::unknown_opcode;
  if (ranged) {
    const auto lba = take_range(c.ns, c.blocks);
    if (!lba) return;
    c.lba = *lba;
  }
  if (c.what == kind::copy) {
    const auto from = take_range(c.ns, c.blocks);
    if (!from) {
      mark(c.ns, c.lba, c.blocks, false);
      return;
    }
    c.from = *from;
  }

  // Data alone, or with its metadata if the format has it in the buffer.
  const std::size_t step = ns.takes_plain_data() ? ns.block_bytes : ns.extended_bytes();
  const std::size_t offset = 4 * random_.below(256);
  c.data = c.buffer.subregion(offset, step * c.blocks);
  const bool is_compare = c.what == kind::compare || c.what == kind::compare_other;
  if (c.what == kind::write || is_compare) {
    bool known = true;
    for (std::uint32_t i = 0; i != c.blocks; ++i) {
      const std::uint32_t now = content_[c.ns][c.lba + i];
      known = known && now != unknown;
      fill(c.data.bytes.subspan(i * step, step), c.what == kind::compare ? now
                                                 : c.what == kind::write ? c.seed
                                                                         : c.seed ^ 0x5555'5555U);
      // Inline metadata of the test is a function of the block as its data is; zeroed with it.
    }
    if (is_compare && !known) c.what = kind::verify;
  } else {
    std::memset(c.data.data(), 0xa5, c.data.size());
  }
  const block_range range{.nsid = ns.nsid, .lba = c.lba, .blocks = c.blocks};
  // Separate metadata is zero in what is written here, and does not matter in what is read.
  const bool separate = !ns.metadata_inline && ns.metadata_bytes != 0 && !ns.strips();
  const auto apart = c.buffer.subregion(buffer_bytes - 512,
                                        separate ? std::size_t{c.blocks} * ns.metadata_bytes : 0);
  if (separate) std::memset(apart.data(), 0, apart.size());
  submitted posted;
  switch (c.what) {
    case kind::read:
      posted = separate ? queue.read(ns, range, c.data, apart, token)
                        : queue.read(ns, range, c.data, token);
      break;
    case kind::write:
      posted = separate ? queue.write(ns, range, c.data, apart, token)
                        : queue.write(ns, range, c.data, token);
      break;
    case kind::compare:
    case kind::compare_other: {
      auto e = nvm::compare(range);
      if (ns.is_protected()) e.cdw12 = e.cdw12 | prinfo{.action = true}.bits() << 26;
      if (ns.is_protected()) e.cdw14 = static_cast<std::uint32_t>(c.lba);
      if (separate) e.mptr = apart.bus.value();
      const segment<bus_space> whole[] = {{c.data.bus, c.data.size()}};
      posted = random_.below(2) != 0 ? queue.submit_unchecked(e, c.data, token)
                                     : queue.submit_unchecked(e, whole, token);
      break;
    }
    case kind::write_zeroes:
      posted = queue.submit(nvm::write_zeroes(range), token);
      break;
    case kind::verify:
      posted = queue.submit(nvm::verify(range), token);
      break;
    case kind::deallocate: {
      const dataset_range r{.context = 0, .blocks = c.blocks, .lba = c.lba};
      std::memcpy(c.buffer.data(), &r, sizeof r);
      posted =
          queue.submit(nvm::dataset_management({.nsid = ns.nsid, .ranges = 1, .deallocate = true}),
                       c.buffer.subregion(0, sizeof r), token);
      break;
    }
    case kind::copy: {
      const auto r = copy_range::of(c.from, c.blocks);
      std::memcpy(c.buffer.data(), &r, sizeof r);
      posted = queue.submit(nvm::copy({.nsid = ns.nsid, .lba = c.lba, .ranges = 1}),
                            c.buffer.subregion(0, sizeof r), token);
      break;
    }
    case kind::flush:
      posted = queue.submit(nvm::flush(ns.nsid), token);
      break;
    case kind::out_of_range:
      posted = queue.submit(
          nvm::verify({.nsid = ns.nsid, .lba = blocks_of_each - c.blocks + 1, .blocks = c.blocks}),
          token);
      break;
    case kind::unknown_opcode: {
      submission_entry e{};
      e.cdw0 = 0x7e;
      e.nsid = ns.nsid;
      posted = queue.submit(e, token);
      break;
    }
  }
  REQUIRE_MESSAGE(posted, (posted.what != nullptr ? posted.what : "not posted"));
  c.in_flight = true;
  free_.pop_back();
  ++posted_;
  // A seed is neither zeros nor unknown, nor those with every bit turned over.
  next_seed_ = next_seed_ == 0x7fff'ffffU ? 1 : next_seed_ + 1;
}

void soak::ended(std::uint32_t token, completion completed) noexcept {
  command& c = commands_[token];
  REQUIRE(c.in_flight);
  c.in_flight = false;
  free_.push_back(token);
  const nvme::status how = completed.status();
  const bool aborted =
      how == status_code::aborted_queue_deletion || how == status_code::aborted_by_host;
  const bool refused = how == status_code::internal_error;
  auto& content = content_[c.ns];
  switch (c.what) {
    case kind::read: {
      REQUIRE((how.ok() || aborted || refused));
      if (!how.ok()) break;
      const namespace_info& ns = infos_[c.ns];
      const std::size_t step = c.data.size() / c.blocks;
      std::array<std::byte, 4096> expected;
      for (std::uint32_t i = 0; i != c.blocks; ++i) {
        if (content[c.lba + i] == unknown) continue;
        const auto block = std::span{expected}.first(ns.block_bytes);
        fill(block, content[c.lba + i]);
        REQUIRE(std::memcmp(c.data.data() + i * step, block.data(), block.size()) == 0);
        ++compared_;
      }
      break;
    }
    case kind::write:
    case kind::write_zeroes:
    case kind::deallocate:
    case kind::copy:
      REQUIRE((how.ok() || aborted || refused));
      if (refused) break;
      for (std::uint32_t i = 0; i != c.blocks; ++i) {
        content[c.lba + i] = aborted                 ? unknown
                             : c.what == kind::write ? c.seed
                             : c.what == kind::copy  ? content[c.from + i]
                                                     : zeros;
      }
      break;
    case kind::compare:
    case kind::verify:
    case kind::flush:
      REQUIRE((how.ok() || aborted || refused));
      break;
    case kind::compare_other:
      REQUIRE((how == status_code::compare_failure || aborted || refused));
      break;
    case kind::out_of_range:
      REQUIRE((how == status_code::lba_out_of_range || aborted || refused));
      return;
    case kind::unknown_opcode:
      REQUIRE((how == status_code::invalid_opcode || aborted || refused));
      return;
  }
  if (c.what == kind::flush) return;
  mark(c.ns, c.lba, c.blocks, false);
  if (c.what == kind::copy) mark(c.ns, c.from, c.blocks, false);
}

}  // namespace

TEST_CASE(
    "random commands of every kind end once and move the right bytes whatever a controller does") {
  const char* const asked = std::getenv("PHASEBIT_RANDOM_COMMANDS");
  const std::uint64_t count = asked != nullptr ? std::strtoull(asked, nullptr, 10) : 100'000;
  soak{1}.run(count);
}
