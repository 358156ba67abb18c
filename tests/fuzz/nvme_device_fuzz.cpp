// SPDX-License-Identifier: BSL-1.0
// A host that writes what it likes: registers, doorbells, commands and the memory that they point
// to, between rounds of a controller whose work per round must stay bounded.
#include <phasebit/block/memory_media.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

using namespace phasebit;
using namespace phasebit::nvme;

namespace {

constexpr std::size_t memory_bytes = 64 * 1024;
constexpr std::uint64_t memory_base = 0x1'0000'0000;

void must(bool condition) {
  if (!condition) std::abort();
}

// The little memory that there is, with an end to run into on both sides.
struct host_memory {
  using from = bus_space;
  using to = local_space;

  result<segment<local_space>> translate(bus_addr a, std::uint64_t wanted,
                                         phasebit::access) noexcept {
    ++translations;
    const std::uint64_t offset = a.value() - memory_base;
    if (a.value() < memory_base || offset >= memory_bytes) {
      return failure(errc::not_mapped, "outside", a.value());
    }
    const std::uint64_t remaining = memory_bytes - offset;
    return segment<local_space>{to_local(bytes.data() + offset),
                                wanted < remaining ? wanted : remaining};
  }

  alignas(4096) std::array<std::byte, memory_bytes> bytes{};
  std::uint64_t translations = 0;
};

struct few : device::default_policy {
  static constexpr std::size_t max_io_queue_pairs = 3;
  static constexpr std::size_t async_events = 2;
  static constexpr std::size_t error_log_entries = 3;
};

struct vectors {
  std::uint16_t limit = 0;
  void raise(std::uint16_t vector) noexcept { must(vector < limit); }
};

class input {
 public:
  input(const std::uint8_t* data, std::size_t bytes) : rest_(data, bytes) {}

  bool empty() const { return rest_.empty(); }
  template <class T>
  T take() {
    T value{};
    const std::size_t n = rest_.size() < sizeof(T) ? rest_.size() : sizeof(T);
    if (n != 0) std::memcpy(&value, rest_.data(), n);
    rest_ = rest_.subspan(n);
    return value;
  }
  // Somewhere in memory, usually aligned.
  std::uint64_t address() {
    const auto at = take<std::uint16_t>();
    const std::uint64_t where = memory_base + ((at & 1U) != 0 ? at & ~63U : at & 0xf000U);
    return at == 0xffff ? take<std::uint64_t>() : where;
  }

 private:
  std::span<const std::uint8_t> rest_;
};

using namespaces = device::namespace_table<block::memory_media, 3>;
using controller = device::controller<host_memory, vectors, namespaces, thread_order, few>;

struct session {
  explicit session(std::uint8_t how)
      : media(std::span{disk}.first(32 * 1024), (how & 1U) != 0 ? 4096 : 512),
        second(std::span{disk}.last(8192)),
        settings(configure(how)),
        irq{settings.interrupt_vectors},
        device(ram, irq, attached(), words, settings) {}

  static device::settings configure(std::uint8_t how) {
    device::settings s;
    s.interrupt_vectors = 3;
    s.max_queue_entries = 64;
    s.fetch_burst = 4;
    s.mdts = (how & 2U) != 0 ? 0 : 2;
    s.doorbell_stride = (how & 4U) != 0 ? 1 : 0;
    s.volatile_write_cache = (how & 8U) == 0;
    s.scatter_gather_lists = (how & 16U) == 0;
    return s;
  }
  namespaces& attached() {
    spaces.attach(1, media);
    spaces.attach(3, second);
    return spaces;
  }

  void enable() {
    device.write32(cc::offset, 0);
    device.write32(aqa::offset, aqa::for_entries(8, 8).raw);
    device.write32(asq::offset, 0);
    device.write32(asq::offset + 4, 1);
    device.write32(acq::offset, 0x1000);
    device.write32(acq::offset + 4, 1);
    device.write32(cc::offset, cc{}.with(cc::en, true).with(cc::iosqes, 6).with(cc::iocqes, 4).raw);
    tails = {};
  }
  // This host places queue q's rings in the two pages after those of queue q - 1.
  void command(unsigned q, submission_entry e) {
    constexpr std::uint32_t depth = 8;
    const std::size_t at = q * 0x2000 + tails[q] * 64;
    std::memcpy(ram.bytes.data() + at, &e, sizeof e);
    tails[q] = (tails[q] + 1) % depth;
    thread_order::store(words[(q * 2) << settings.doorbell_stride], tails[q]);
  }
  void create(std::uint16_t q) {
    const std::uint64_t at = memory_base + q * 0x2000U;
    command(0, admin::create_io_cq({.qid = q, .entries = 8, .memory = bus_addr{at + 0x1000}}));
    command(0, admin::create_io_sq({.qid = q, .entries = 8, .memory = bus_addr{at}, .cqid = q}));
    poll();
    tails[q] = 0;
  }
  void poll() {
    ram.translations = 0;
    const unsigned done = device.poll();
    must(done <= 4 * 4 + 2 + 64);
    must(ram.translations < 400'000);
  }
  // Reads as a host would: whatever was posted is consumed.
  void reap(unsigned q, std::uint32_t head) {
    thread_order::store(words[(q * 2 + 1) << settings.doorbell_stride], head);
  }

  host_memory ram{};
  std::array<std::byte, 40 * 1024> disk{};
  block::memory_media media;
  block::memory_media second;
  namespaces spaces{};
  device::settings settings;
  vectors irq;
  std::array<std::uint32_t, 16> words{};
  std::array<std::uint32_t, 4> tails{};
  controller device;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  input in{data, bytes};
  session s{in.take<std::uint8_t>()};
  s.enable();
  for (int step = 0; step != 200 && !in.empty(); ++step) {
    const auto op = in.take<std::uint8_t>();
    const unsigned q = op >> 4 & 3U;
    switch (op & 15U) {
      case 0:
        s.device.write32(in.take<std::uint16_t>(), in.take<std::uint32_t>());
        break;
      case 1:
        static_cast<void>(s.device.read64(in.take<std::uint16_t>()));
        break;
      case 2:
        s.words[in.take<std::uint8_t>() % s.words.size()] = in.take<std::uint32_t>();
        break;
      case 3: {
        const std::size_t at = in.take<std::uint16_t>() % (memory_bytes - 8);
        store_wire(std::span{s.ram.bytes}.subspan(at), in.take<le<std::uint64_t>>());
        break;
      }
      case 4: {
        // An address in memory: lists and segments.
        const std::size_t at = in.take<std::uint16_t>() & 0xfff8U;
        store_wire(std::span{s.ram.bytes}.subspan(at), le<std::uint64_t>{in.address()});
        break;
      }
      case 5:
        s.enable();
        break;
      case 6:
        s.create(static_cast<std::uint16_t>(q % 3 + 1));
        break;
      case 7:
        s.command(q, in.take<submission_entry>());
        break;
      case 8:
      case 9: {
        // A command that could almost be meant.
        submission_entry e{};
        e.cdw0 = in.take<std::uint32_t>() & 0xffff'c3ffU;
        e.nsid = in.take<std::uint8_t>() & 3U;
        e.prp1 = in.address();
        e.prp2 = in.address();
        e.cdw10 = in.take<std::uint32_t>();
        e.cdw11 = in.take<std::uint16_t>();
        e.cdw12 = in.take<std::uint32_t>() & 0xf000'003fU;
        if ((op & 15U) == 9) {
          e.set_sgl(sgl_descriptor::of(static_cast<sgl_type>(in.take<std::uint8_t>() & 3U),
                                       bus_addr{in.address()}, in.take<std::uint16_t>()));
        }
        s.command(q, e);
        break;
      }
      case 10:
        s.reap(q, in.take<std::uint8_t>());
        break;
      case 11:
        s.device.advance(in.take<std::uint16_t>());
        break;
      case 12:
        s.device.namespace_changed(in.take<std::uint8_t>());
        break;
      case 13:
        if (in.take<std::uint8_t>() == 0) s.device.reset();
        break;
      default:
        s.poll();
        break;
    }
  }
  for (int i = 0; i != 4; ++i) s.poll();
  return 0;
}
