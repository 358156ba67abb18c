// SPDX-License-Identifier: BSL-1.0
// Streams of admin and I/O commands for a controller with everything: managed namespaces with metadata and
// reservations, zones, maintenance commands, fused pairs, over media that complete later, in any order, and
// fail. The host rewrites lists and data while they are in use. Memory outside of the host's small region is
// absent. Whatever the host does, work per round is bounded, and a reset drains.
#include <phasebit/block/bounce_pool.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/planned_media.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespace_pool.hpp>
#include <phasebit/nvme/device/zoned_namespaces.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

using namespace phasebit;
using namespace phasebit::nvme;

namespace {

constexpr std::size_t memory_bytes = 64 * 1024;
constexpr std::uint64_t memory_base = 0x1'0000'0000;
constexpr std::size_t disk_blocks = 256;
constexpr std::size_t zone_blocks = 16;

void must(bool condition) {
  if (!condition) std::abort();
}

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
    const std::uint64_t rest = memory_bytes - offset;
    return segment<local_space>{to_local(bytes.data() + offset), wanted < rest ? wanted : rest};
  }

  alignas(4096) std::array<std::byte, memory_bytes> bytes{};
  std::uint64_t translations = 0;
};

class input {
 public:
  input(const std::uint8_t* data, std::size_t bytes) : rest_(data, bytes) {}

  [[nodiscard]] bool empty() const { return rest_.empty(); }
  template <class T>
  T take() {
    T value{};
    const std::size_t n = rest_.size() < sizeof(T) ? rest_.size() : sizeof(T);
    if (n != 0) std::memcpy(&value, rest_.data(), n);
    rest_ = rest_.subspan(n);
    return value;
  }
  std::uint64_t address() {
    const auto at = take<std::uint16_t>();
    const std::uint64_t where = memory_base + ((at & 1U) != 0 ? at & ~63U : at & 0xf000U);
    return at == 0xffff ? take<std::uint64_t>() : where;
  }

 private:
  std::span<const std::uint8_t> rest_;
};

// The outcomes of the next operations of the media.
struct chosen_plan {
  block::media_fate fate{};
  block::media_fate operator()(const block::media_request&, std::uint64_t) noexcept { return fate; }
};

struct policy : device::default_policy {
  static constexpr std::size_t max_io_queue_pairs = 3;
  static constexpr std::size_t async_events = 2;
  static constexpr std::size_t error_log_entries = 3;
  static constexpr bool fused_commands = true;
  using maintenance = device::maintenance_commands;
};

struct vectors {
  void raise(std::uint16_t vector) noexcept { must(vector < 3); }
};

using reservations = device::reservations<4, 2>;
using pool_type = device::namespace_pool<4, reservations>;
using media_type = block::planned_media<block::memory_media, chosen_plan>;
using namespaces =
    device::zoned_namespaces<device::pooled_namespaces<media_type, 4, reservations>, 4>;
using controller = device::controller<host_memory, vectors, namespaces, thread_order, policy>;

struct session {
  session()
      : blocks(disk, 512),
        media(blocks, operations),
        pool(disk_blocks, 512, {metadata, 8, marks}),
        table(zones, {.zone_blocks = zone_blocks,
                      .capacity_blocks = 12,
                      .max_open = 2,
                      .max_active = 3,
                      .extension_units = 1,
                      .extensions = extensions}),
        bounce(buffers, 4096),
        spaces(pool, media, std::uint16_t{0}),
        device(ram, irq, spaces, words, configure(), {commands, segments, &bounce}) {
    for (const std::uint64_t size : {64U, 64U}) {
      const auto made = pool.create(size, {}, true);
      pool.finish(made.nsid);
      must(pool.attach(made.nsid, 0) == status_code::success);
    }
    spaces.attach_zones(2, table);
    device.maintenance().set_firmware_memory(firmware);
  }
  static device::settings configure() {
    device::settings s;
    s.interrupt_vectors = 3;
    s.max_queue_entries = 64;
    s.fetch_burst = 4;
    s.mdts = 2;
    return s;
  }
  void enable() {
    device.write32(cc::offset, 0);
    device.write32(aqa::offset, aqa::for_entries(8, 8).raw);
    device.write32(asq::offset, 0);
    device.write32(asq::offset + 4, 1);
    device.write32(acq::offset, 0x1000);
    device.write32(acq::offset + 4, 1);
    device.write32(cc::offset, cc{}.with(cc::en, true)
                                   .with(cc::iosqes, 6)
                                   .with(cc::iocqes, 4)
                                   .with(cc::css, command_set_selected::all_supported)
                                   .raw);
    tails = {};
  }
  void command(unsigned q, const submission_entry& e) {
    constexpr std::uint32_t depth = 8;
    std::memcpy(ram.bytes.data() + q * 0x2000 + tails[q] * 64, &e, sizeof e);
    tails[q] = (tails[q] + 1) % depth;
    thread_order::store(words[q * 2], tails[q]);
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
    static_cast<void>(device.poll());
    must(ram.translations < 400'000);
    // The limits of the zones hold whatever happens.
    must(table.open_zones() <= 2 && table.active_zones() <= 3);
    for (std::size_t i = 0; i != table.count(); ++i) must(table.at(i).written <= 12);
  }
  // A reset ends once the media let go of what they have.
  void drain() {
    device.write32(cc::offset, 0);
    media.plan().fate = {};
    media.release_all();
    // A Sanitize goes on after a reset, a few blocks at a time.
    for (int i = 0; i != 2000 && !device.drained(); ++i) poll();
    must(device.drained());
    for (int i = 0; i != 64 && csts{device.read32(csts::offset)}[csts::rdy]; ++i) poll();
    for (std::size_t i = 0; i != table.count(); ++i) {
      must(table.at(i).in_flight == 0 && !table.at(i).resetting);
    }
    must(bounce.available() == bounce.capacity());
  }

  host_memory ram{};
  std::array<std::byte, disk_blocks * 512> disk{};
  std::array<std::byte, disk_blocks * 8> metadata{};
  std::array<std::uint8_t, disk_blocks / 8> marks{};
  std::array<device::zone, 64 / zone_blocks> zones{};
  std::array<std::byte, 64 / zone_blocks * 64> extensions{};
  std::array<std::byte, 8192> firmware{};
  block::memory_media blocks;
  std::array<block::planned_operation, 32> operations{};
  media_type media;
  pool_type pool;
  device::zone_table table;
  std::array<device::pending_command, 8> commands{};
  std::array<block::media_segment, 16> segments{};
  alignas(4096) std::array<std::byte, std::size_t{4} * 4096> buffers{};
  block::bounce_pool bounce;
  namespaces spaces;
  vectors irq{};
  std::array<std::uint32_t, 16> words{};
  std::array<std::uint32_t, 4> tails{};
  controller device;
};

constexpr std::array admin_opcodes{admin_opcode::identify,
                                   admin_opcode::get_log_page,
                                   admin_opcode::get_features,
                                   admin_opcode::set_features,
                                   admin_opcode::format_nvm,
                                   admin_opcode::namespace_management,
                                   admin_opcode::sanitize,
                                   admin_opcode::namespace_attachment,
                                   admin_opcode::firmware_commit,
                                   admin_opcode::firmware_image_download,
                                   admin_opcode::abort,
                                   admin_opcode::device_self_test,
                                   admin_opcode::delete_io_sq,
                                   admin_opcode::delete_io_cq,
                                   admin_opcode::async_event_request,
                                   admin_opcode::doorbell_buffer_config};
constexpr std::array nvm_opcodes{nvm_opcode::read,
                                 nvm_opcode::write,
                                 nvm_opcode::flush,
                                 nvm_opcode::compare,
                                 nvm_opcode::write_zeroes,
                                 nvm_opcode::dataset_management,
                                 nvm_opcode::verify,
                                 nvm_opcode::copy,
                                 nvm_opcode::write_uncorrectable,
                                 nvm_opcode::reservation_register,
                                 nvm_opcode::reservation_acquire,
                                 nvm_opcode::reservation_release,
                                 nvm_opcode::reservation_report,
                                 nvm_opcode::zone_management_send,
                                 nvm_opcode::zone_management_receive,
                                 nvm_opcode::zone_append};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  input in{data, bytes};
  session s;
  s.enable();
  s.create(1);
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
      case 9:
      case 10: {
        const bool admin = (op & 15U) == 8;
        const auto which = in.take<std::uint8_t>();
        submission_entry e{};
        e.cdw0 = std::uint32_t{in.take<std::uint8_t>()} << 16 |
                 (admin ? static_cast<std::uint32_t>(admin_opcodes[which % admin_opcodes.size()])
                        : static_cast<std::uint32_t>(nvm_opcodes[which % nvm_opcodes.size()]) |
                              (which >> 6 & 3U) << 8);
        e.nsid = which == 0xff ? all_namespaces : in.take<std::uint8_t>() & 7U;
        e.prp1 = in.address();
        e.prp2 = in.address();
        e.cdw10 = admin ? in.take<std::uint32_t>() : in.take<std::uint8_t>();
        e.cdw11 = admin ? in.take<std::uint32_t>() : in.take<std::uint8_t>() & 1U;
        e.cdw12 = in.take<std::uint32_t>() & 0x7c00'003fU;
        e.cdw13 = in.take<std::uint32_t>() & 0xffffU;
        e.cdw14 = in.take<std::uint8_t>();
        s.command(admin ? 0 : q == 0 ? 1 : q, e);
        break;
      }
      case 11:
        thread_order::store(s.words[q * 2 + 1], in.take<std::uint8_t>() & 7U);
        break;
      case 12:
        switch (in.take<std::uint8_t>() & 7U) {
          case 0:
            s.table.set_read_only(in.take<std::uint8_t>() % s.table.count());
            break;
          case 1:
            s.table.set_offline(in.take<std::uint8_t>() % s.table.count());
            break;
          case 2:
            s.device.reset();
            break;
          case 3:
            s.device.subsystem_reset();
            break;
          case 4:
            s.device.quiesce();
            break;
          case 5:
            s.device.resume();
            break;
          default:
            s.device.advance(in.take<std::uint16_t>());
            break;
        }
        break;
      case 13: {
        const auto how = in.take<std::uint8_t>();
        s.media.plan().fate = {};
        s.media.plan().fate.delay = (how & 8U) != 0 ? block::media_fate::held : how & 7U;
        s.media.plan().fate.ignores_cancel = (how & 16U) != 0;
        if ((how & 0xc0U) == 0x40) s.media.plan().fate.status = block::media_status::write_failed;
        if ((how & 0xc0U) == 0x80) s.media.plan().fate.busy = true;
        if ((how & 0xc0U) == 0xc0) s.media.plan().fate.at_once = true;
        if ((how & 32U) != 0) s.media.release_all();
        break;
      }
      default:
        s.poll();
        break;
    }
  }
  s.drain();
  return 0;
}
