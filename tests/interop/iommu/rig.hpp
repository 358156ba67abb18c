// SPDX-License-Identifier: BSL-1.0
// A machine of QEMU with an IOMMU that we program, and disks behind it whose accesses our page
// tables translate. The bodies of the tests are in body.hpp; a machine is described by a trait:
//
//   options()                         board, IOMMU and arguments, without the disks
//   unit, open(machine, tables, host) our driver of its IOMMU
//   format_type, format(unit)         the tables that it is to walk
//   code(wrong)                       the code of its fault record; nothing: it records none
//   claims_pasids                     its records contain a PASID where there was none
//   logs_cached_refusals              records accesses that a cached translation does not permit
//   looks_at_upper_bits()             checks addresses beyond the width of the tables
//   is_record_of(fault, code, requester, iova, access)
//                                     optional: how its records differ from code() and the access
//   forgets_by_range                  invalidates a range and not the whole domain
//   knows_malformed, malformed(entry) an entry that it refuses as malformed
#pragma once

#include <phasebit/backend/qtest.hpp>
#include <phasebit/iommu/fault/fault.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/nvme/driver/controller.hpp>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <support/nvme_end_to_end.hpp>
#include <support/skip.hpp>
#include <sys/wait.h>
#include <unistd.h>

namespace phasebit_test {

namespace qtest = phasebit::backend::qtest;
namespace iommu = phasebit::iommu;
using phasebit::access;
using phasebit::bus_addr;
using phasebit::bus_space;
using phasebit::dma_region;
using phasebit::error;
using phasebit::host_phys;
using phasebit::result;

// Kinds of faulty access.
enum class wrong {
  reads_unmapped,
  writes_unmapped,
  writes_read_only,
  reads_write_only,
  beyond_width,
  malformed,
  no_device,
};

inline std::string text_of(const error& e) {
  std::array<char, 256> out{};
  return std::string{e.message(out)};
}
template <class T>
T& must(result<T>& r) {
  REQUIRE_MESSAGE(r.has_value(), (r ? std::string{} : text_of(r.error())));
  return *r;
}
template <class T>
T must(result<T>&& r) {
  REQUIRE_MESSAGE(r.has_value(), (r ? std::string{} : text_of(r.error())));
  if constexpr (!std::is_void_v<T>) return std::move(*r);
}

inline std::string find_newer_qemu(const std::string& program, unsigned major) {
  const std::string command = "python3 " PHASEBIT_TEST_SOURCE_DIR "/interop/newer_qemu.py " +
                              program + " " + std::to_string(major) + " 2>&1";
  std::FILE* const out = ::popen(command.c_str(), "r");
  if (out == nullptr) skip("python3 is not installed");
  std::string said;
  std::array<char, 512> part{};
  while (std::fgets(part.data(), part.size(), out) != nullptr) said += part.data();
  const int status = ::pclose(out);
  while (!said.empty() && said.back() == '\n') said.pop_back();
  if (status == 0) return said;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 77) {
    std::fprintf(stderr, "newer_qemu.py failed: %s\n", said.c_str());
    std::exit(1);
  }
  const std::string mark = "skipped: ";
  const std::size_t at = said.find(mark);
  skip(at == std::string::npos ? "no newer QEMU: " + said : said.substr(at + mark.size()));
}
// The path of a QEMU of this version (10 or 11) or later; ends the test as skipped where there is none.
// A test asks for one program of one version only.
inline std::string newer_qemu(const std::string& program, unsigned major = 10) {
  static const std::string found = find_newer_qemu(program, major);
  return found;
}
inline std::string installed_qemu(const std::string& program) {
  const auto found = qtest::find_program(program);
  if (!found) skip(program + " is not installed");
  return *found;
}
// The installed one for major 0.
inline std::string qemu_of(unsigned major, const std::string& program) {
  return major == 0 ? installed_qemu(program) : newer_qemu(program, major);
}
// The output of the program with these arguments.
inline std::string printed_by(const std::string& program, const std::string& arguments) {
  std::FILE* const out = ::popen(("'" + program + "' " + arguments + " 2>&1").c_str(), "r");
  REQUIRE(out != nullptr);
  std::string said;
  std::array<char, 512> part{};
  while (std::fgets(part.data(), part.size(), out) != nullptr) said += part.data();
  ::pclose(out);
  return said;
}
// The major version that the program reports.
inline unsigned version_of(const std::string& program) {
  const std::string said = printed_by(program, "--version");
  const std::string mark = "version ";
  const std::size_t at = said.find(mark);
  REQUIRE_MESSAGE(at != std::string::npos, said);
  return static_cast<unsigned>(std::strtoul(said.c_str() + at + mark.size(), nullptr, 10));
}

// A disk image with known contents, gone with the test.
class image {
 public:
  static constexpr std::size_t blocks = 4096;

  explicit image(std::uint32_t generation) {
    const int fd = ::mkstemp(path_.data());
    REQUIRE(fd >= 0);
    std::array<std::byte, 512> block{};
    for (std::uint64_t lba = 0; lba != blocks; ++lba) {
      fill_block(block, lba, generation);
      REQUIRE(::write(fd, block.data(), block.size()) == ::ssize_t{block.size()});
    }
    ::close(fd);
  }
  image(const image&) = delete;
  image& operator=(const image&) = delete;
  ~image() { ::unlink(path_.c_str()); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/phasebit-iommu-XXXXXX";
};

// Memory for an IOMMU's device tables.
using unit_tables = iommu::table_arena<128>;

// The QEMU, its IOMMU's driver, and memory for tables. Nothing is let through yet.
template <class Machine>
class rig {
 public:
  using unit_type = typename Machine::unit;
  static constexpr std::size_t disks = 2;

  rig() : machine_(start(images_)), host_(must(machine_.open(phasebit::pcie::requester_id{}))) {
    tables_memory_ = must(ram().allocate(std::size_t{128} << 12, 16 << 12));
    tables_.emplace(tables_memory_.bytes, host_phys{tables_memory_.bus.value()});
    unit_.emplace(must(Machine::open(machine_, *tables_, host_)));
  }
  rig(const rig&) = delete;
  rig& operator=(const rig&) = delete;

  [[nodiscard]] unit_type& unit() { return *unit_; }
  [[nodiscard]] unit_tables& tables() { return *tables_; }
  [[nodiscard]] qtest::machine& machine() { return machine_; }
  [[nodiscard]] qtest::ram& ram() const { return machine_.memory(); }
  [[nodiscard]] qtest::function open_disk(unsigned n) {
    return must(machine_.open_class(0x010802, n));
  }
  [[nodiscard]] static std::byte at(std::uint64_t lba, std::size_t offset, std::size_t disk) {
    std::array<std::byte, 512> block{};
    fill_block(block, lba, static_cast<std::uint32_t>(disk + 1));
    return block[offset];
  }

  // All that the log holds; none of it stays.
  [[nodiscard]] std::vector<iommu::translation_fault> faults() {
    std::vector<iommu::translation_fault> all;
    while (all.size() < 4096) {
      const auto one = unit_->next_fault();
      if (!one) break;
      all.push_back(*one);
    }
    must(machine_.status());
    return all;
  }

 private:
  static qtest::machine start(const std::array<image, disks>& images) {
    qtest::options o = Machine::options();
    for (std::size_t i = 0; i != disks; ++i) {
      const std::string n = std::to_string(i);
      o.drives.push_back({"d" + n, images[i].path()});
      o.devices.push_back("nvme,serial=s" + n + ",drive=d" + n);
    }
    return must(qtest::machine::start(o));
  }

  std::array<image, disks> images_{image{1}, image{2}};
  qtest::machine machine_;
  qtest::function host_;  // the host bridge, which does no DMA, stands for the machine itself
  dma_region tables_memory_;
  std::optional<unit_tables> tables_;
  std::optional<unit_type> unit_;
};

// Tables of one format for one domain of a rig's IOMMU; changes reach the hardware only when
// flush() is called, so that stale translations are visible.
template <class Machine>
class domain {
 public:
  using format_type = typename Machine::format_type;
  using arena = iommu::table_arena<256, format_type::granule_shift>;
  using table = iommu::page_table<format_type, arena>;
  using changes_type = typename table::changes_type;
  static constexpr std::uint64_t granule = std::uint64_t{1} << format_type::granule_shift;

  domain(rig<Machine>& r, std::uint16_t id, const iommu::page_table_options& options = {})
      : rig_(&r),
        id_(id),
        memory_(must(r.ram().allocate(pages * granule, 16 * granule))),
        arena_(std::make_unique<arena>(memory_.bytes, host_phys{memory_.bus.value()})),
        table_(must(table::create(Machine::format(r.unit()), *arena_, options))),
        changes_(&carry_out, this) {}
  domain(const domain&) = delete;
  domain& operator=(const domain&) = delete;
  ~domain() {
    table_.complete(changes_);
    rig_->ram().release(memory_);
  }

  [[nodiscard]] std::uint16_t id() const { return id_; }
  [[nodiscard]] table& tables() { return table_; }
  [[nodiscard]] const format_type& format() const { return table_.format(); }
  [[nodiscard]] changes_type& changes() { return changes_; }

  void map(std::uint64_t iova, std::uint64_t to, std::uint64_t bytes,
           access permission = access::read_write) {
    must(table_.map(bus_addr{iova}, host_phys{to}, bytes, {.permission = permission}, changes_));
  }
  void unmap(std::uint64_t iova, std::uint64_t bytes) {
    CHECK(must(table_.unmap(bus_addr{iova}, bytes, changes_)) == bytes);
  }
  // Invalidates the changes through the IOMMU's own queue, and waits.
  void flush() {
    must(rig_->unit().flush(id_, changes_.ranges()));
    table_.complete(changes_);
  }
  void flush_all() {
    must(rig_->unit().flush_domain(id_));
    table_.complete(changes_);
  }
  // The word of our tables that holds `entry`, so that a test can overwrite it.
  [[nodiscard]] iommu::table_word* find_entry(std::uint64_t entry) const {
    const std::span words{reinterpret_cast<iommu::table_word*>(memory_.data()),
                          memory_.size() / sizeof(iommu::table_word)};
    for (iommu::table_word& w : words) {
      if (w == entry) return &w;
    }
    return nullptr;
  }
  void attach(phasebit::pcie::requester_id who) {
    must(rig_->unit().attach(who, id_, table_.view()));
  }

 private:
  // 64 tables of 64 KiB are 4 MiB.
  static constexpr std::size_t pages = format_type::granule_shift == 12 ? 256 : 64;

  static void carry_out(void* self,
                        std::span<const iommu::invalidation_range<bus_space>> r) noexcept {
    auto& d = *static_cast<domain*>(self);
    const auto done = d.rig_->unit().flush(d.id_, r);
    CHECK(done.has_value());
  }

  rig<Machine>* rig_;
  std::uint16_t id_;
  dma_region memory_;
  std::unique_ptr<arena> arena_;
  table table_;
  changes_type changes_;
};

// DMA memory that has other addresses on the bus than in RAM: each region is mapped where nothing else
// is. Models DmaMemory.
template <class Ram, class Domain>
class translated_memory {
 public:
  translated_memory(Ram& ram, Domain& d, std::uint64_t iova)
      : ram_(&ram), domain_(&d), next_(iova) {}

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    constexpr auto granule = static_cast<std::size_t>(Domain::granule);
    const std::size_t size = (bytes + granule - 1) / granule * granule;
    const std::size_t step = alignment > granule ? alignment : granule;
    auto made = ram_->allocate(size, step);
    if (!made) return made;
    const std::uint64_t iova = (next_ + step - 1) / step * step;
    const auto mapped = domain_->tables().map(bus_addr{iova}, host_phys{made->bus.value()}, size,
                                              {}, domain_->changes());
    if (!mapped) return mapped.error();
    // A hole after each: what runs over an end meets nothing.
    next_ = iova + size + granule;
    places_.push_back({iova, *made});
    return dma_region{made->bytes.first(bytes), bus_addr{iova}};
  }
  void release(dma_region region) noexcept {
    for (auto p = places_.begin(); p != places_.end(); ++p) {
      if (p->iova != region.bus.value()) continue;
      domain_->unmap(p->iova, p->memory.size());
      domain_->flush();
      ram_->release(p->memory);
      places_.erase(p);
      return;
    }
    FAIL("a region is released that was not allocated");
  }

 private:
  struct place {
    std::uint64_t iova;
    dma_region memory;
  };

  Ram* ram_;
  Domain* domain_;
  std::uint64_t next_;
  std::vector<place> places_;
};

// A function with such memory. Models PcieBackend, so that any driver runs behind the IOMMU unaware
// of it.
template <class Machine>
class translated_function {
 public:
  using bar_type = qtest::bar;
  using ring_order = qtest::function::ring_order;
  using domain_type = domain<Machine>;

  translated_function(qtest::function&& f, qtest::ram& ram, domain_type& d, std::uint64_t iova)
      : function_(std::move(f)), memory_(ram, d, iova) {}

  [[nodiscard]] auto config() noexcept { return function_.config(); }
  [[nodiscard]] result<bar_type> map_bar(unsigned i) noexcept { return function_.map_bar(i); }
  [[nodiscard]] auto clock() const noexcept { return function_.clock(); }
  [[nodiscard]] phasebit::pcie::requester_id id() const { return function_.id(); }
  [[nodiscard]] qtest::function& untranslated() { return function_; }

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return memory_.allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { memory_.release(region); }

 private:
  qtest::function function_;
  translated_memory<qtest::ram, domain_type> memory_;
};

}  // namespace phasebit_test
