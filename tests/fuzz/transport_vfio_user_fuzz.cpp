// SPDX-License-Identifier: BSL-1.0
// A vfio-user client that sends what it likes: raw bytes, messages with any header and payload, messages
// that could almost be meant, NVMe commands in memory that it shares or answers for, and reconnects.
#include <phasebit/block/bounce_pool.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/planned_media.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/transport/vfio_user/nvme_device.hpp>
#include <phasebit/transport/vfio_user/server.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace phasebit;
namespace vfu = phasebit::transport::vfio_user;

namespace {

constexpr std::size_t memory_bytes = 0x10000;
constexpr std::uint64_t memory_base = 0x10'0000;

void must(bool condition) {
  if (!condition) std::abort();
}

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
  std::span<const std::byte> bytes(std::size_t n) {
    if (n > rest_.size()) n = rest_.size();
    const auto taken = rest_.first(n);
    rest_ = rest_.subspan(n);
    return std::as_bytes(taken);
  }

 private:
  std::span<const std::uint8_t> rest_;
};

struct few : nvme::device::default_policy {
  static constexpr std::size_t max_io_queue_pairs = 2;
};
using media_type = block::planned_media<block::memory_media, block::random_media_plan>;
using namespaces = nvme::device::single_namespace<media_type>;
using device_type = vfu::nvme_device<namespaces, few>;
using server_type = vfu::server<device_type>;

// The descriptors that the client passes to the server, created once.
struct client_files {
  posix::unique_fd fd{::memfd_create("fuzz", MFD_CLOEXEC)};
  posix::memory_mapping memory;
  posix::unique_fd eventfd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
};
client_files& shared_file() {
  static client_files files = [] {
    client_files made;
    must(::ftruncate(made.fd.get(), memory_bytes) == 0);
    auto mapping = posix::memory_mapping::shared(made.fd.get(), memory_bytes);
    must(mapping.has_value());
    made.memory = std::move(*mapping);
    return made;
  }();
  return files;
}

struct session {
  explicit session(std::uint8_t how)
      : media(blocks, operations, {.longest = 2, .hold_one_in = (how & 1U) != 0 ? 5U : 0U}),
        spaces(media) {
    bounce = block::bounce_pool{buffers, 1 << 12};
    const vfu::nvme_options options{
        .controller = {.io_queue_pairs = 2, .interrupt_vectors = 3, .ready_timeout = 255},
        .map_doorbells = (how & 2U) == 0};
    auto made = device_type::create(host, spaces, options, {commands, segments, &bounce});
    must(made.has_value());
    device = std::move(*made);
    auto serving = server_type::create(host, *device,
                                       {.message_dma_limit_ms = 0, .twin_socket = (how & 4U) != 0});
    must(serving.has_value());
    server = std::move(*serving);
    std::memset(memory.data(), 0, memory.size());
    connect();
  }
  void connect() {
    int ends[2];
    must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    server->connect(posix::unique_fd{ends[0]});
    client = vfu::message_channel{posix::unique_fd{ends[1]}};
  }
  void raw(std::span<const std::byte> bytes) {
    if (!bytes.empty()) {
      static_cast<void>(
          !::send(client.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    }
  }
  void send(vfu::message_header h, std::span<const std::byte> payload,
            std::span<const int> fds = {}) {
    static_cast<void>(client.send(h, payload, {}, fds));
  }
  void negotiate() {
    static constexpr char text[] =
        "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":8,\"write_multiple\":true,"
        "\"twin_socket\":{\"supported\":true}}}";
    send({1, 1, 0, 0, 0}, std::as_bytes(std::span{text}));
  }
  void map(bool shared) {
    const vfu::dma_map m{sizeof m, 3, 0, memory_base, memory_bytes};
    const int fd[] = {file.get()};
    send({2, 2, 0, 0, 0}, wire_bytes(m), std::span{fd}.first(shared ? 1 : 0));
  }
  void write32(std::uint32_t region, std::uint64_t offset, std::uint32_t value) {
    struct {
      vfu::region_access a;
      std::uint32_t value;
    } m{{offset, region, 4}, value};
    std::array<std::byte, 20> bytes;
    std::memcpy(bytes.data(), &m, bytes.size());
    send({3, 10, 0, vfu::flag_no_reply, 0}, bytes);
  }
  void enable() {
    write32(7, 4, 6);
    write32(0, nvme::cc::offset, 0);
    write32(0, nvme::aqa::offset, 0x0007'0007);
    write32(0, nvme::asq::offset, memory_base);
    write32(0, nvme::asq::offset + 4, 0);
    write32(0, nvme::acq::offset, memory_base + 0x1000);
    write32(0, nvme::acq::offset + 4, 0);
    write32(0, nvme::cc::offset, 0x0046'0001);
    tails = {};
  }
  void command(unsigned q, std::span<const std::byte> entry) {
    std::memcpy(memory.data() + q * 0x2000 + tails[q] * 64, entry.data(), entry.size());
    tails[q] = (tails[q] + 1) % 8;
    write32(0, nvme::first_doorbell + 8 * q, tails[q]);
  }
  void turn(int rounds) {
    for (int i = 0; i != rounds; ++i) {
      must(server->poll() < 10'000);
      drain();
    }
  }
  void drain() {
    for (;;) {
      const auto got = client.receive(reply);
      if (!got || *got != vfu::receive_status::complete) return;
      must(reply.refused == 0);  // the server sends whole messages of a lawful size
    }
  }
  void reconnect() {
    client.close();
    for (int i = 0; server->state() != vfu::server_state::waiting; ++i) {
      must(i < 1000);
      server->poll();
      media.release_all();
    }
    must(host.dma.table().size() == 0);
    connect();
  }

  std::vector<std::byte> disk = std::vector<std::byte>(64 << 10);
  block::memory_media blocks{disk};
  std::array<block::planned_operation, 16> operations{};
  media_type media;
  namespaces spaces;
  std::array<nvme::device::pending_command, 8> commands{};
  std::array<block::media_segment, 64> segments{};
  std::vector<std::byte> buffers = std::vector<std::byte>(16 << 10);
  block::bounce_pool bounce;
  vfu::host host{3, 8};
  std::unique_ptr<device_type> device;
  std::unique_ptr<server_type> server;
  posix::unique_fd& file = shared_file().fd;
  posix::memory_mapping& memory = shared_file().memory;
  posix::unique_fd& eventfd = shared_file().eventfd;
  vfu::message_channel client;
  vfu::message reply;
  std::array<std::uint32_t, 4> tails{};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  input in{data, bytes};
  const auto how = in.take<std::uint8_t>();
  session s{how};
  if ((how & 8U) == 0) s.negotiate();
  if ((how & 16U) == 0) s.map((how & 32U) == 0);
  if ((how & 64U) == 0) s.enable();
  for (int step = 0; step != 60 && !in.empty(); ++step) {
    const auto op = in.take<std::uint8_t>();
    const unsigned detail = op >> 4U;
    const int fds[] = {s.file.get(), s.eventfd.get(), s.eventfd.get()};
    switch (op & 15) {
      case 0:
        s.raw(in.bytes(in.take<std::uint8_t>()));
        break;
      case 1: {
        // Any header.
        auto h = in.take<vfu::message_header>();
        const auto payload = in.bytes(in.take<std::uint8_t>());
        if (detail == 0) {
          s.raw(wire_bytes(h));
          s.raw(payload);
        } else {
          s.send(h, payload, std::span{fds}.first(detail % 4U));
        }
        break;
      }
      case 2:
      case 3:
      case 4: {
        // A command with a payload of words, of which the first covers it.
        const auto what = static_cast<std::uint16_t>(1 + in.take<std::uint8_t>() % 18);
        std::vector<std::byte> payload(in.take<std::uint8_t>() % 80);
        const auto given = in.bytes(payload.size());
        std::copy(given.begin(), given.end(), payload.begin());
        if ((op & 15) != 4 && payload.size() >= 4) {
          const auto size = static_cast<std::uint32_t>(payload.size());
          std::memcpy(payload.data(), &size, sizeof size);
        }
        const std::size_t first = what == 8 ? 1 : 0;
        s.send({static_cast<std::uint16_t>(step), what, 0, 0, 0}, payload,
               std::span{fds}.subspan(first, detail % 3U));
        break;
      }
      case 5: {
        // A register, or configuration space.
        const auto region = detail % 2 == 0 ? 0U : detail % 4 == 1 ? 7U : 4U;
        const auto offset = in.take<std::uint16_t>();
        s.write32(region, region == 7 ? offset % 4096U : offset & 0xfffcU,
                  in.take<std::uint32_t>());
        break;
      }
      case 6: {
        vfu::region_access a{in.take<std::uint16_t>(), detail % 8U, in.take<std::uint16_t>()};
        s.send({4, 9, 0, 0, 0}, wire_bytes(a));
        break;
      }
      case 7:
        s.enable();
        break;
      case 8:
      case 9: {
        std::array<std::byte, 64> entry{};
        const auto given = in.bytes((op & 15) == 8 ? 64 : 20);
        std::copy(given.begin(), given.end(), entry.begin());
        if ((op & 15) == 9) {
          const std::uint64_t prp = memory_base + 0x8000 + detail * 0x1000U % 0x8000;
          std::memcpy(entry.data() + 24, &prp, sizeof prp);
          std::copy(given.begin(), given.end(), entry.begin() + 40);
          entry[1] = std::byte{0};
        }
        s.command(detail % 3U, entry);
        break;
      }
      case 10: {
        // The end of an interrupt set-up, with descriptors.
        const vfu::irq_set set{20, 0x24, 2, in.take<std::uint8_t>() % 4U, detail % 3U};
        s.send({5, 8, 0, 0, 0}, wire_bytes(set), std::span{fds}.subspan(1, detail % 3U));
        break;
      }
      case 11: {
        const vfu::dma_unmap u{24, detail == 0 ? 2U : 0U, detail == 0 ? 0 : memory_base,
                               detail == 0 ? 0 : memory_bytes};
        s.send({6, 3, 0, 0, 0}, wire_bytes(u));
        break;
      }
      case 12:
        s.media.release_all();
        break;
      case 13:
        if (detail == 0) {
          s.reconnect();
          s.negotiate();
          s.map(true);
        } else {
          s.map(detail % 2 == 0);
        }
        break;
      default:
        s.turn(detail % 8 + 1);
        break;
    }
    if (s.server->state() == vfu::server_state::connected) s.turn(1);
    if (s.server->state() != vfu::server_state::connected) s.reconnect();
  }
  s.turn(4);
  s.reconnect();
  return 0;
}
