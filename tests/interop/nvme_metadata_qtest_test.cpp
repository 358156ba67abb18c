// SPDX-License-Identifier: BSL-1.0
// Metadata and protection information of our driver against QEMU's NVMe controller, which computes and checks
// guards and tags by itself, and whose image file shows what is stored: the data of all blocks, then the
// metadata of all blocks.
#include <phasebit/backend/qtest.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/driver/disk.hpp>
#include <phasebit/nvme/driver/request_queue.hpp>
#include <phasebit/nvme/spec/guard.hpp>
#include <phasebit/nvme/spec/protection.hpp>

#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/nvme_end_to_end.hpp>
#include <support/skip.hpp>
#include <unistd.h>

namespace qtest = phasebit::backend::qtest;
namespace driver = phasebit::nvme::driver;
using namespace phasebit_test;
using namespace phasebit;
using nvme::status_code;

namespace {

using controller = driver::controller<qtest::function>;
using queue_type = controller::io_queue<std::uint32_t>;

constexpr std::size_t image_bytes = 256U << 10;
constexpr std::size_t block = 512;

// A namespace as `-device nvme-ns` takes it. `wide_guard`: of 64 bits.
struct format {
  unsigned metadata;
  bool in_line;
  unsigned type;
  bool first;
  bool wide_guard = false;
};

std::vector<format> all_formats() {
  std::vector<format> all;
  for (const unsigned bytes : {8U, 64U}) {
    for (const bool in_line : {false, true}) {
      all.push_back({bytes, in_line, 0, false});
      for (const unsigned type : {1U, 2U, 3U}) {
        for (const bool first : {false, true}) all.push_back({bytes, in_line, type, first});
      }
    }
  }
  for (const unsigned bytes : {16U, 64U}) {
    for (const unsigned type : {1U, 2U, 3U}) {
      all.push_back({bytes, type == 2, type, bytes == 64 && type == 1, true});
    }
  }
  return all;
}

// The images of a machine's namespaces, which live as long as the test.
struct images {
  std::string folder;
  std::size_t count;

  explicit images(std::size_t n) : count(n) {
    char name[] = "/tmp/phasebit-metadata-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    folder = name;
    for (std::size_t i = 0; i != n; ++i) {
      std::ofstream{path(i), std::ios::binary} << std::string(image_bytes, '\0');
    }
  }
  images(const images&) = delete;
  ~images() {
    for (std::size_t i = 0; i != count; ++i) ::unlink(path(i).c_str());
    ::rmdir(folder.c_str());
  }
  [[nodiscard]] std::string path(std::size_t i) const {
    return folder + "/" + std::to_string(i) + ".img";
  }
  [[nodiscard]] std::vector<std::byte> read(std::size_t i, std::uint64_t at,
                                            std::size_t bytes) const {
    std::vector<std::byte> out(bytes);
    std::ifstream file{path(i), std::ios::binary};
    file.seekg(static_cast<std::streamoff>(at));
    file.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(bytes));
    REQUIRE(file);
    return out;
  }
};

qtest::options machine_of(const images& files, std::span<const format> formats) {
  qtest::options o{.devices = {"nvme,serial=phasebit,id=c0"}};
  for (std::size_t i = 0; i != formats.size(); ++i) {
    const format& f = formats[i];
    const std::string number = std::to_string(i + 1);
    o.drives.push_back({.id = "d" + number, .path = files.path(i)});
    o.devices.push_back("nvme-ns,bus=c0,drive=d" + number + ",nsid=" + number +
                        ",ms=" + std::to_string(f.metadata) + ",mset=" + (f.in_line ? "1" : "0") +
                        ",pi=" + std::to_string(f.type) + ",pil=" + (f.first ? "1" : "0") +
                        (f.wide_guard ? ",pif=2" : ""));
  }
  return o;
}

bool have_qemu() { return std::system("command -v qemu-system-x86_64 >/dev/null 2>&1") == 0; }

std::vector<std::byte> random_bytes(std::size_t n, std::uint64_t seed) {
  std::vector<std::byte> out(n);
  std::mt19937_64 random{seed};
  for (auto& b : out) b = static_cast<std::byte>(random());
  return out;
}

// One namespace under test: transfers of data and metadata by commands of a queue.
class subject {
 public:
  subject(qtest::function& function, controller& host, queue_type& queue, const images& files,
          std::uint32_t nsid, const format& f)
      : function_(function), queue_(queue), files_(files), f_(f) {
    const auto found = host.identify_namespace(nsid);
    REQUIRE(found);
    ns_ = *found;
    data_ = *function.allocate(64U << 10, 4096);
    apart_ = *function.allocate(8U << 10, 4096);
  }
  subject(const subject&) = delete;
  ~subject() {
    function_.release(data_);
    function_.release(apart_);
  }

  void run() {
    CHECK(ns_.metadata_bytes == f_.metadata);
    CHECK(ns_.metadata_inline == f_.in_line);
    CHECK(static_cast<unsigned>(ns_.protection) == f_.type);
    CHECK(ns_.blocks == image_bytes / (block + f_.metadata));
    if (f_.type == 0) {
      without_protection();
      return;
    }
    CHECK(ns_.protection_first == f_.first);
    CHECK((ns_.guard == nvme::guard_format::bits64) == f_.wide_guard);
    for (const std::uint32_t blocks : {1U, 7U, 8U, 9U, 33U}) {
      tuples_of_ours(3 + blocks, blocks);
      tuples_of_the_controller(60 + blocks, blocks);
    }
    wrong_tuples();
    escapes();
    wrong_reference_tags();
  }

 private:
  [[nodiscard]] nvme::protection_type type() const { return ns_.protection; }
  [[nodiscard]] std::size_t tuple_at() const {
    return ns_.protection_first ? 0 : ns_.metadata_bytes - ns_.tuple_bytes();
  }
  [[nodiscard]] std::uint64_t tag(std::uint64_t lba, std::size_t i) const {
    return type() == nvme::protection_type::type1   ? lba + i
           : type() == nvme::protection_type::type2 ? 1000 + i
                                                    : 1000;
  }
  // Sets the tuple of a block; the guard is xored with `error`.
  void set_tuple(std::span<const std::byte> data, std::byte* meta, std::uint16_t application,
                 std::uint64_t reference, std::uint64_t error = 0) const {
    const std::size_t at = tuple_at();
    if (f_.wide_guard) {
      nvme::protection64 t{};
      t.guard = nvme::guard64({meta, at}, nvme::guard64(data)) ^ error;
      t.application_tag = application;
      nvme::store_be(t.storage_and_reference, 6, reference);
      std::memcpy(meta + at, &t, sizeof t);
    } else {
      nvme::protection16 t{};
      t.guard = static_cast<std::uint16_t>(nvme::guard16({meta, at}, nvme::guard16(data)) ^ error);
      t.application_tag = application;
      t.reference_tag = static_cast<std::uint32_t>(reference);
      std::memcpy(meta + at, &t, sizeof t);
    }
  }
  void set_tuples(std::span<const std::byte> data, std::span<std::byte> meta, std::uint64_t lba,
                  std::uint16_t application, std::uint64_t error = 0) const {
    for (std::size_t i = 0; i * block != data.size(); ++i) {
      set_tuple(data.subspan(i * block, block), meta.data() + i * ns_.metadata_bytes, application,
                tag(lba, i), error);
    }
  }
  [[nodiscard]] driver::completion finish(driver::submitted posted) {
    REQUIRE_MESSAGE(posted, posted.what);
    queue_.ring();
    driver::completion answer;
    REQUIRE(within_ten_seconds(function_, [&]() noexcept {
      return queue_.poll([&](std::uint32_t&, driver::completion c) noexcept { answer = c; }) != 0;
    }));
    return answer;
  }
  [[nodiscard]] nvme::block_range range(std::uint64_t lba, std::size_t blocks,
                                        nvme::prinfo pi) const {
    return {.lba = lba,
            .blocks = static_cast<std::uint32_t>(blocks),
            .pi = pi,
            .reference_tag = 1000,
            .application_tag = 0x1234,
            .application_mask = 0xffff};
  }
  // Everything that can be checked: type 3 has no reference tag to check.
  [[nodiscard]] nvme::prinfo all_checks() const {
    return {.check_guard = true,
            .check_application = true,
            .check_reference = type() != nvme::protection_type::type3};
  }

  // Data and metadata in the layout of the format; empty metadata: data alone.
  [[nodiscard]] nvme::status write(const nvme::block_range& r, std::span<const std::byte> data,
                                   std::span<const std::byte> meta) {
    if (ns_.metadata_inline && !meta.empty()) {
      const std::size_t step = block + ns_.metadata_bytes;
      for (std::size_t i = 0; i != r.blocks; ++i) {
        std::memcpy(data_.data() + i * step, data.data() + i * block, block);
        std::memcpy(data_.data() + i * step + block, meta.data() + i * ns_.metadata_bytes,
                    ns_.metadata_bytes);
      }
      return finish(queue_.write(ns_, r, data_.subregion(0, step * r.blocks), 0)).status();
    }
    std::memcpy(data_.data(), data.data(), data.size());
    const auto plain = data_.subregion(0, data.size());
    if (meta.empty()) return finish(queue_.write(ns_, r, plain, 0)).status();
    std::memcpy(apart_.data(), meta.data(), meta.size());
    return finish(queue_.write(ns_, r, plain, apart_.subregion(0, meta.size()), 0)).status();
  }
  [[nodiscard]] nvme::status read(const nvme::block_range& r, std::vector<std::byte>& data,
                                  std::vector<std::byte>* meta) {
    data.assign(r.blocks * block, std::byte{0xee});
    std::memset(data_.data(), 0xa5, data_.size());
    std::memset(apart_.data(), 0xa5, apart_.size());
    if (meta != nullptr) meta->assign(std::size_t{r.blocks} * ns_.metadata_bytes, std::byte{0xee});
    const bool extended = ns_.metadata_inline && meta != nullptr;
    const std::size_t step = block + (extended ? ns_.metadata_bytes : 0U);
    const auto there = data_.subregion(0, step * r.blocks);
    const auto beside = apart_.subregion(0, meta != nullptr ? meta->size() : 0);
    const auto how = finish(extended || meta == nullptr ? queue_.read(ns_, r, there, 0)
                                                        : queue_.read(ns_, r, there, beside, 0))
                         .status();
    // Nothing behind either buffer was touched.
    CHECK(data_.bytes[there.size()] == std::byte{0xa5});
    if (meta == nullptr || extended) {
      CHECK(apart_.bytes[0] == std::byte{0xa5});
    } else {
      CHECK(apart_.bytes[beside.size()] == std::byte{0xa5});
    }
    for (std::size_t i = 0; i != r.blocks; ++i) {
      std::memcpy(data.data() + i * block, there.data() + i * step, block);
      if (meta == nullptr) continue;
      std::memcpy(
          meta->data() + i * ns_.metadata_bytes,
          extended ? there.data() + i * step + block : beside.data() + i * ns_.metadata_bytes,
          ns_.metadata_bytes);
    }
    return how;
  }
  void check_image(std::uint64_t lba, std::span<const std::byte> data,
                   std::span<const std::byte> meta) const {
    const std::size_t which = ns_.nsid - 1;
    const auto stored = files_.read(which, lba * block, data.size());
    CHECK(std::memcmp(stored.data(), data.data(), data.size()) == 0);
    const auto beside =
        files_.read(which, ns_.blocks * block + lba * ns_.metadata_bytes, meta.size());
    CHECK(std::memcmp(beside.data(), meta.data(), meta.size()) == 0);
  }

  void without_protection() {
    std::vector<std::byte> in;
    std::vector<std::byte> beside;
    for (const std::uint32_t blocks : {1U, 7U, 8U, 9U, 32U, 33U}) {
      // QEMU 7.2 loses all but the remainder of metadata that is longer than 512 bytes and no multiple of it.
      if (blocks * f_.metadata > 512 && blocks * f_.metadata % 512 != 0) continue;
      const auto data = random_bytes(blocks * block, blocks);
      const auto meta = random_bytes(blocks * f_.metadata, blocks + 100);
      CHECK(write(range(blocks, blocks, {}), data, meta).ok());
      check_image(blocks, data, meta);
      CHECK(read(range(blocks, blocks, {}), in, &beside).ok());
      CHECK(in == data);
      CHECK(beside == meta);
      if (ns_.metadata_inline) continue;
      if (blocks * f_.metadata > 512) continue;  // more than the queue's own buffers hold
      // Data alone: the metadata is zeros.
      CHECK(write(range(blocks, blocks, {}), data, {}).ok());
      check_image(blocks, data, std::vector<std::byte>(meta.size()));
      CHECK(read(range(blocks, blocks, {}), in, nullptr).ok());
      CHECK(in == data);
    }
  }

  void tuples_of_ours(std::uint64_t lba, std::size_t blocks) {
    const auto data = random_bytes(blocks * block, lba);
    auto meta = random_bytes(blocks * ns_.metadata_bytes, lba + 100);
    set_tuples(data, meta, lba, 0x1234);
    CHECK(write(range(lba, blocks, all_checks()), data, meta).ok());
    check_image(lba, data, meta);
    std::vector<std::byte> in;
    std::vector<std::byte> beside;
    CHECK(read(range(lba, blocks, all_checks()), in, &beside).ok());
    CHECK(in == data);
    CHECK(beside == meta);
    // Without the tuples: the controller checks them.
    if (!ns_.strips()) return;
    CHECK(read({.lba = lba, .blocks = static_cast<std::uint32_t>(blocks)}, in, nullptr).ok());
    auto checks = all_checks();
    checks.action = true;
    CHECK(read(range(lba, blocks, checks), in, nullptr).ok());
    CHECK(in == data);
  }

  // PRACT: of metadata that is longer than the tuple the remaining bytes are ours.
  void tuples_of_the_controller(std::uint64_t lba, std::size_t blocks) {
    const auto data = random_bytes(blocks * block, lba);
    auto meta = random_bytes(blocks * ns_.metadata_bytes, lba + 100);
    const bool strips = ns_.strips();
    CHECK(write(range(lba, blocks, {.action = true}), data,
                strips ? std::span<const std::byte>{} : meta)
              .ok());
    set_tuples(data, meta, lba, 0x1234);
    check_image(lba, data, meta);
    auto checks = all_checks();
    checks.action = true;
    std::vector<std::byte> in;
    std::vector<std::byte> beside;
    CHECK(read(range(lba, blocks, checks), in, strips ? nullptr : &beside).ok());
    CHECK(in == data);
    if (!strips) CHECK(beside == meta);
    CHECK(read(range(lba, blocks, all_checks()), in, &beside).ok());
    CHECK(in == data);
    CHECK(beside == meta);
    // As a user who sets no protection fields.
    if (!strips) return;
    const nvme::block_range plain{.lba = lba, .blocks = static_cast<std::uint32_t>(blocks)};
    CHECK(write(plain, data, {}).ok());
    CHECK(read(plain, in, nullptr).ok());
    CHECK(in == data);
  }

  // A tuple that is wrong in one thing, in the last of three blocks.
  void wrong_tuples() {
    enum class wrong { guard, application, reference };
    for (const wrong what : {wrong::guard, wrong::application, wrong::reference}) {
      if (what == wrong::reference && type() == nvme::protection_type::type3) continue;
      const std::uint64_t lba = 120;
      const auto data = random_bytes(3 * block, 7);
      auto meta = random_bytes(3U * ns_.metadata_bytes, 8);
      set_tuples(data, meta, lba, 0x1234);
      set_tuple(std::span{data}.subspan(2 * block), meta.data() + 2U * ns_.metadata_bytes,
                what == wrong::application ? 0x1235 : 0x1234,
                tag(lba, 2) + (what == wrong::reference), what == wrong::guard);
      const status_code expected = what == wrong::guard ? status_code::guard_check_error
                                   : what == wrong::application
                                       ? status_code::application_tag_check_error
                                       : status_code::reference_tag_check_error;
      const nvme::prinfo only{.check_guard = what == wrong::guard,
                              .check_application = what == wrong::application,
                              .check_reference = what == wrong::reference};
      const nvme::prinfo others{.check_guard = what != wrong::guard,
                                .check_application = what != wrong::application};
      CHECK(write(range(lba, 3, only), data, meta) == expected);
      CHECK(write(range(lba, 3, all_checks()), data, meta) == expected);
      CHECK(write(range(lba, 3, others), data, meta).ok());
      std::vector<std::byte> in;
      std::vector<std::byte> beside;
      CHECK(read(range(lba, 3, only), in, &beside) == expected);
      CHECK(read(range(lba, 2, all_checks()), in, &beside).ok());
      CHECK(read(range(lba, 3, others), in, &beside).ok());
      CHECK(in == data);
      CHECK(beside == meta);
      if (!ns_.strips()) continue;
      auto checks = only;
      checks.action = true;
      CHECK(read(range(lba, 3, checks), in, nullptr) == expected);
      // The checks for a user who sets no protection fields.
      if (what != wrong::application && type() != nvme::protection_type::type2) {
        CHECK(read({.lba = lba, .blocks = 3}, in, nullptr) == expected);
      }
    }
    // The bits that the mask leaves out may differ.
    const auto data = random_bytes(block, 9);
    auto meta = random_bytes(ns_.metadata_bytes, 10);
    set_tuples(data, meta, 130, 0x1934);
    auto masked = range(130, 1, {.check_application = true});
    CHECK(write(masked, data, meta) == status_code::application_tag_check_error);
    masked.application_mask = 0x00ff;
    CHECK(write(masked, data, meta).ok());
  }

  // An application tag of ones switches the checks off; in type 3 with a reference tag of ones.
  void escapes() {
    const std::uint64_t ones = f_.wide_guard ? 0xffff'ffff'ffff : 0xffff'ffff;
    const bool type3 = type() == nvme::protection_type::type3;
    const auto data = random_bytes(block, 11);
    auto meta = random_bytes(ns_.metadata_bytes, 12);
    std::vector<std::byte> in;
    set_tuple(data, meta.data(), 0xffff, type3 ? ones : 77, 1);
    CHECK(write(range(131, 1, {}), data, meta).ok());
    std::vector<std::byte> beside;
    CHECK(read(range(131, 1, all_checks()), in, &beside).ok());
    CHECK(in == data);
    if (!type3) return;
    set_tuple(data, meta.data(), 0xffff, 77, 1);
    CHECK(write(range(131, 1, {}), data, meta).ok());
    CHECK(read(range(131, 1, all_checks()), in, &beside) == status_code::guard_check_error);
  }

  // Type 1 requires the LBA, and the driver sets it; a command built by hand is refused. Type 3 has
  // no such check.
  void wrong_reference_tags() {
    if (type() == nvme::protection_type::type2) return;
    auto e = nvme::nvm::read({.nsid = ns_.nsid,
                              .lba = 5,
                              .blocks = 1,
                              .pi = {.check_reference = true},
                              .reference_tag = 6});
    e.mptr = apart_.bus.value();
    const auto answer =
        finish(queue_.submit_unchecked(e, data_.subregion(0, ns_.extended_bytes()), 0));
    CHECK(answer.status() == status_code::invalid_protection_information);
  }

  qtest::function& function_;
  queue_type& queue_;
  const images& files_;
  format f_;
  driver::namespace_info ns_;
  dma_region data_;
  dma_region apart_;
};

}  // namespace

TEST_CASE("metadata and protection information are those of QEMU's controller, in every format") {
  if (!have_qemu()) skip("qemu-system-x86_64 is not installed");
  const auto formats = all_formats();
  const images files{formats.size()};
  auto machine = qtest::machine::start(machine_of(files, formats));
  REQUIRE_MESSAGE(machine, machine.error().what);
  auto function = machine->open_class(0x010802);
  REQUIRE(function);
  auto host = controller::attach(*function, {.io_queues = 2});
  REQUIRE_MESSAGE(host, host.error().what);
  for (std::size_t i = 0; i != formats.size(); ++i) {
    const format& f = formats[i];
    CAPTURE(f.metadata);
    CAPTURE(f.in_line);
    CAPTURE(f.type);
    CAPTURE(f.first);
    CAPTURE(f.wide_guard);
    const auto nsid = static_cast<std::uint32_t>(i + 1);
    auto queue = host->create_queue_pair({.depth = 8, .max_transfer = 65'536, .nsid = nsid},
                                         driver::tokens<std::uint32_t>);
    REQUIRE_MESSAGE(queue, queue.error().what);
    subject{*function, *host, *queue, files, nsid, f}.run();
    CHECK(queue->health());
  }
}

TEST_CASE("disks and split requests keep data and metadata of every format on QEMU's controller") {
  if (!have_qemu()) skip("qemu-system-x86_64 is not installed");
  const auto formats = all_formats();
  const images files{formats.size()};
  auto machine = qtest::machine::start(machine_of(files, formats));
  REQUIRE_MESSAGE(machine, machine.error().what);
  auto function = machine->open_class(0x010802);
  REQUIRE(function);
  auto host = controller::attach(*function, {.io_queues = 2, .max_transfer = 20'000});
  REQUIRE_MESSAGE(host, host.error().what);
  for (std::size_t i = 0; i != formats.size(); ++i) {
    const format& f = formats[i];
    CAPTURE(f.metadata);
    CAPTURE(f.in_line);
    CAPTURE(f.type);
    CAPTURE(f.first);
    CAPTURE(f.wide_guard);
    const auto nsid = static_cast<std::uint32_t>(i + 1);
    std::vector<std::byte> out;
    {
      auto disk = driver::open_disk(*host, {.nsid = nsid});
      REQUIRE_MESSAGE(disk, disk.error().what);
      const std::size_t blocks = disk->info().blocks;
      out = random_bytes(blocks * block, nsid);
      // Seven blocks at a time, as copying by chunks of 3584 bytes does.
      for (std::size_t at = 0; at < blocks; at += 7) {
        const std::size_t now = std::min<std::size_t>(7, blocks - at);
        REQUIRE(disk->write(at, std::span{out}.subspan(at * block, now * block)));
      }
      CHECK(files.read(i, 0, out.size()) == out);
      std::vector<std::byte> in(out.size());
      REQUIRE(disk->read(0, in));
      CHECK(in == out);
      std::vector<std::byte> metadata(blocks * f.metadata);
      REQUIRE(disk->read(0, in, metadata));
      CHECK(in == out);
      CHECK(files.read(i, out.size(), metadata.size()) == metadata);
      CHECK(disk->write(0, out, metadata));
      CHECK(disk->flush());
    }
    // One request, many commands: each has its part of the metadata and its own reference tag.
    auto queue = host->create_queue_pair({.depth = 4, .max_transfer = 8192, .nsid = nsid},
                                         driver::tokens<std::uint16_t>);
    REQUIRE(queue);
    const std::size_t count = 100;
    const auto& ns = queue->format();
    const std::size_t step = ns.extended_bytes();
    const auto data = allocate(*function, count * step);
    const auto apart = allocate(*function, count * f.metadata);
    REQUIRE(data);
    REQUIRE(apart);
    {
      driver::request_queue<std::remove_reference_t<decltype(*queue)>, 4> requests{*queue};
      const segment<bus_space> segments[] = {{(*data)->bus, count * step}};
      const bool type3 = f.type == 3;
      for (const bool write : {false, true}) {
        const nvme::block_range r{
            .nsid = nsid,
            .pi = {.check_guard = f.type != 0, .check_reference = f.type != 0 && !type3},
            .reference_tag = f.type == 2 ? 11U : 0U};
        driver::request request{.command = write ? nvme::nvm::write(r) : nvme::nvm::read(r),
                                .lba = 11,
                                .segments = segments};
        if (!f.in_line) request.metadata = **apart;
        nvme::status how = status_code::internal_error;
        int ended = 0;
        REQUIRE(requests.submit(request, [&](driver::completion c) noexcept {
          how = c.status();
          ++ended;
        }));
        CHECK(within_ten_seconds(*function, [&]() noexcept {
          (void)requests.poll();
          return ended != 0;
        }));
        CHECK(ended == 1);
        CHECK(how.ok());
        for (std::size_t b = 0; b != count; ++b) {
          REQUIRE(std::memcmp((*data)->data() + b * step, out.data() + (11 + b) * block, block) ==
                  0);
        }
      }
    }
    CHECK(files.read(i, 0, out.size()) == out);
    CHECK(host->delete_queue_pair(*queue, [](auto&, driver::completion) noexcept {}));
  }
}
