// SPDX-License-Identifier: BSL-1.0
// One socket of nvme_target: its disks, the controller over them, and the vfio-user server.
#pragma once

#include <phasebit/block/bounce_pool.hpp>
#include <phasebit/hosted/reactor.hpp>
#include <phasebit/nvme/device/namespace_pool.hpp>
#include <phasebit/nvme/device/reservations.hpp>
#include <phasebit/nvme/device/zoned_namespaces.hpp>
#include <phasebit/posix/steady_clock.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/transport/vfio_user/nvme_device.hpp>
#include <phasebit/transport/vfio_user/server.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <support/target_disk.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace example {

struct target_options {
  std::vector<std::string> sockets;
  std::vector<std::string> disks;
  std::uint32_t namespaces = 1;
  std::uint16_t queues = 8;
  std::uint32_t depth = 256;
  std::uint32_t block_size = 512;
  unsigned threads = 2;
  std::uint32_t spin_us = 200;
  std::uint32_t sleep_ms = 1;
  std::uint32_t statistics_s = 0;
  std::string serial = "PHASEBIT0001";
  std::string model = "phasebit nvme_target";
  bool trap_doorbells = false;
  bool read_only = false;
  bool once = false;
  bool verbose = false;
  bool managed = false;
  std::uint16_t metadata = 0;
  unsigned pi = 0;
  std::uint64_t zone_bytes = 0;
  bool hand_over = false;
  int take_over = -1;
};

struct target_statistics {
  phasebit::transport::vfio_user::server_counters messages;
  std::uint64_t work = 0;
  std::uint64_t interrupts = 0;
  std::uint64_t message_bytes = 0;
};

// The server on the reactor's thread. After `spin_us` without work it sleeps: until a message arrives, and at
// most `sleep_ms` where doorbells are shared memory, which wakes no descriptor.
class target_server : public phasebit::hosted::poller {
 public:
  using channel = phasebit::transport::vfio_user::message_channel;

  [[nodiscard]] virtual std::uint32_t namespace_count() const noexcept = 0;
  // By messages to the reactor.
  virtual void close() noexcept = 0;
  [[nodiscard]] virtual bool closed() const noexcept = 0;
  [[nodiscard]] virtual bool client_left() const noexcept = 0;
  [[nodiscard]] virtual phasebit::error last_error() const noexcept = 0;
  [[nodiscard]] virtual target_statistics counters() const noexcept = 0;
  // When it is not served any more. False: a disk could not be flushed.
  [[nodiscard]] virtual bool flush() noexcept = 0;

  // Stops between two commands, without the client's noticing; ready_to_hand_over() reports when. Then
  // everything is sent to another process, or it goes on.
  virtual void begin_hand_over() noexcept = 0;
  [[nodiscard]] virtual bool ready_to_hand_over() const noexcept = 0;
  [[nodiscard]] virtual phasebit::result<> hand_over(channel& to) = 0;
  virtual void abandon_hand_over() noexcept = 0;
};

// Disks, each divided evenly into namespaces.
class plain_namespaces : public target_namespaces {
 public:
  using policy = phasebit::nvme::device::default_policy;

  [[nodiscard]] phasebit::result<> make(std::vector<std::unique_ptr<target_disk>>& disks,
                                        const target_options& o, std::function<void()> wake) {
    for (auto& disk : disks) {
      const std::uint64_t each = disk->block_count() / o.namespaces;
      for (std::uint32_t i = 0; i != o.namespaces; ++i) {
        auto media = target_media::make(*disk, each * i, each, o.threads, wake);
        if (!media) return media.error();
        add(std::move(*media));
      }
    }
    return {};
  }
  target_namespaces& set() noexcept { return *this; }
  template <class Controller>
  void begin(Controller&) noexcept {}
  [[nodiscard]] std::uint32_t count() const noexcept { return highest_nsid(); }
};

struct managed_policy : phasebit::nvme::device::default_policy {
  static constexpr bool fused_commands = true;
  using maintenance = phasebit::nvme::device::maintenance_commands;
};

// One disk as a pool of up to 16 namespaces, which the host creates, formats, attaches, reserves and
// sanitizes. How they are laid out follows from the options at each start.
class managed_namespaces {
 public:
  using policy = managed_policy;
  static constexpr std::size_t most = 16;
  using reservations = phasebit::nvme::device::reservations<most, 8>;
  using pool_type = phasebit::nvme::device::namespace_pool<most, reservations>;
  using set_type = phasebit::nvme::device::zoned_namespaces<
      phasebit::nvme::device::pooled_namespaces<target_media, most, reservations>, most>;

  [[nodiscard]] phasebit::result<> make(std::vector<std::unique_ptr<target_disk>>& disks,
                                        const target_options& o, std::function<void()> wake) {
    namespace device = phasebit::nvme::device;
    using phasebit::errc;
    using phasebit::failure;
    if (disks.size() != 1) {
      return failure(errc::invalid_argument, "managed namespaces are those of one disk",
                     disks.size());
    }
    target_disk& disk = *disks[0];
    if (o.block_size != 512 && o.block_size != 4096) {
      return failure(errc::invalid_argument, "managed namespaces have blocks of 512 or 4096 bytes",
                     o.block_size);
    }
    auto media = target_media::make(disk, 0, disk.block_count(), o.threads, std::move(wake));
    if (!media) return media.error();
    media_ = std::move(*media);
    const std::uint16_t stride = o.metadata > 8 ? o.metadata : std::uint16_t{8};
    if (const auto made = make_metadata(disk, stride, o.pi != 0); !made) return made;
    marks_.resize(phasebit::int_cast<std::size_t>(disk.block_count() / 8 + 1));
    pool_.emplace(disk.block_count(), disk.block_size(),
                  device::namespace_memory{metadata(), stride, marks_});
    set_.emplace(*pool_, *media_, std::uint16_t{0});
    device::namespace_format f;
    f.index = static_cast<std::uint8_t>((o.block_size == 4096 ? 4 : 0) + (o.metadata == 0    ? 0
                                                                          : o.metadata == 8  ? 1
                                                                          : o.metadata == 16 ? 2
                                                                                             : 3));
    f.pi = static_cast<phasebit::nvme::protection_type>(o.pi);
    const std::uint64_t zone_blocks = o.zone_bytes / o.block_size;
    for (std::uint32_t i = 1; i <= o.namespaces; ++i) {
      std::uint64_t blocks = disk.block_count() / o.namespaces & ~std::uint64_t{7};
      const bool zoned = zone_blocks != 0 && i == o.namespaces;
      if (zoned) blocks &= ~(zone_blocks - 1);
      const auto made = pool_->create(blocks, f, false);
      if (made.status != phasebit::nvme::status_code::success) {
        return failure(errc::invalid_argument, "the disk is too small for its namespaces", i);
      }
      pool_->finish(made.nsid);
      static_cast<void>(pool_->attach(made.nsid, 0));
      if (!zoned) continue;
      zones_.resize(phasebit::int_cast<std::size_t>(blocks / zone_blocks));
      if (zones_.empty()) {
        return failure(errc::invalid_argument, "the namespace is smaller than a zone", zone_blocks);
      }
      table_.emplace(zones_, device::zone_options{
                                 .zone_blocks = zone_blocks, .max_open = 8, .max_active = 16});
      set_->attach_zones(made.nsid, *table_);
    }
    count_ = o.namespaces;
    firmware_.resize(std::size_t{1} << 20);
    return {};
  }
  [[nodiscard]] set_type& set() noexcept { return *set_; }
  template <class Controller>
  void begin(Controller& controller) noexcept {
    controller.maintenance().set_firmware_memory(firmware_);
  }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }
  [[nodiscard]] bool any_to_poll() const noexcept { return media_->has_to_be_polled(); }

 private:
  // Beside an image, in a file; beside memory, in memory.
  [[nodiscard]] phasebit::result<> make_metadata(const target_disk& disk, std::uint16_t stride,
                                                 bool protection) {
    const auto bytes = phasebit::int_cast<std::size_t>(disk.block_count() * stride);
    bool fresh = true;
    if (disk.in_memory()) {
      memory_.resize(bytes);
    } else {
      const std::string path = disk.path() + ".metadata";
      phasebit::posix::unique_fd fd{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)};
      if (!fd)
        return phasebit::posix::os_error("the file of the metadata cannot be opened").of(path);
      struct ::stat about {};
      if (::fstat(fd.get(), &about) != 0) {
        return phasebit::posix::os_error("the file of the metadata cannot be used").of(path);
      }
      fresh = about.st_size == 0;
      if (!fresh && static_cast<std::size_t>(about.st_size) != bytes) {
        return phasebit::failure(phasebit::errc::invalid_argument,
                                 "the file of the metadata belongs to another disk; its size is",
                                 static_cast<std::uint64_t>(about.st_size))
            .of(path);
      }
      if (fresh && ::ftruncate(fd.get(), static_cast<::off_t>(bytes)) != 0) {
        return phasebit::posix::os_error("the file of the metadata cannot be made").of(path);
      }
      auto mapping = phasebit::posix::memory_mapping::shared(fd.get(), bytes);
      if (!mapping) return mapping.error().of(path);
      mapping_ = std::move(*mapping);
    }
    // Tuples whose checks are off: blocks that were never written.
    if (fresh && protection) std::memset(metadata().data(), 0xff, bytes);
    return {};
  }
  [[nodiscard]] std::span<std::byte> metadata() noexcept {
    return mapping_ ? mapping_.bytes() : std::span<std::byte>{memory_};
  }

  std::unique_ptr<target_media> media_;
  phasebit::posix::memory_mapping mapping_;
  std::vector<std::byte> memory_;
  std::vector<std::uint8_t> marks_;
  std::vector<std::byte> firmware_;
  std::vector<phasebit::nvme::device::zone> zones_;
  std::optional<phasebit::nvme::device::zone_table> table_;
  std::optional<pool_type> pool_;
  std::optional<set_type> set_;
  std::uint32_t count_ = 0;
};

// `Spaces` is plain_namespaces or managed_namespaces.
template <class Spaces>
class target_server_of final : public target_server {
  using set_type = std::remove_reference_t<decltype(std::declval<Spaces&>().set())>;
  using device_type =
      phasebit::transport::vfio_user::nvme_device<set_type, typename Spaces::policy>;
  using server_type = phasebit::transport::vfio_user::server<device_type>;
  using server_state = phasebit::transport::vfio_user::server_state;
  template <class T = void>
  using result = phasebit::result<T>;

 public:
  // `listener` and `from`: of a process that hands over, where `from` is not null.
  [[nodiscard]] static result<std::unique_ptr<target_server>> make(
      const std::string& socket, std::vector<std::unique_ptr<target_disk>> disks,
      const target_options& o, std::function<void()> wake, phasebit::posix::unique_fd listener,
      channel* from) {
    std::unique_ptr<target_server_of> made{new target_server_of{socket, o, std::move(disks)}};
    if (const auto spaces = made->spaces_.make(made->disks_, o, std::move(wake)); !spaces) {
      return spaces.error();
    }
    const phasebit::nvme::device::settings settings{
        .serial = made->options_.serial,
        .model = made->options_.model,
        .subsystem_nqn = made->nqn_,
        .first_eui64 = made->first_eui64_,
        .io_queue_pairs = o.queues,
        .interrupt_vectors = static_cast<std::uint16_t>(o.queues + 1)};
    phasebit::transport::vfio_user::message state;
    phasebit::posix::unique_fd doorbells;
    if (from != nullptr) {
      auto got = device_type::receive(*from, state);
      if (!got) return got.error();
      doorbells = std::move(*got);
    }
    auto device = device_type::create(made->host_, made->spaces_.set(),
                                      {.controller = settings, .map_doorbells = !o.trap_doorbells},
                                      {made->commands_, made->segments_, &made->bounce_},
                                      std::move(doorbells));
    if (!device) return device.error();
    made->device_ = std::move(*device);
    made->spaces_.begin(made->device_->controller());
    auto server = server_type::create(made->host_, *made->device_);
    if (!server) return server.error();
    made->server_ = std::move(*server);
    if (from != nullptr) {
      if (const auto got = made->server_->take_over(*from); !got) return got.error();
      if (const auto got = made->device_->take_over(state); !got) return got.error();
      made->left_ = made->server_->state() != server_state::waiting;
    } else {
      auto listening = listen_at(socket);
      if (!listening) return listening.error();
      listener = std::move(*listening);
    }
    made->listener_ = std::move(listener);
    return made;
  }

  unsigned poll() noexcept override {
    switch (phase_) {
      case phase::serving:
        break;
      case phase::settling:
        if (!server_->can_hand_over()) return server_->poll();
        device_->pause();
        phase_ = phase::pausing;
        [[fallthrough]];
      case phase::pausing: {
        const unsigned did = device_->poll();
        if (device_->can_hand_over()) phase_ = phase::ready;
        return did;
      }
      case phase::ready:
        return 0;
    }
    if (server_->state() == server_state::waiting) {
      if (left_) gone_ = true;
      left_ = false;
      return closing_ ? 0 : accept();
    }
    left_ = true;
    const unsigned did = server_->poll();
    if (did != 0) idle_since_ = 0;
    return did;
  }
  [[nodiscard]] bool arm() noexcept override {
    if (phase_ == phase::ready) return true;
    if (phase_ != phase::serving || server_->busy() || spaces_.any_to_poll()) return false;
    const std::uint64_t now = phasebit::posix::steady_clock::now();
    if (idle_since_ == 0) idle_since_ = now;
    return now - idle_since_ >= std::uint64_t{options_.spin_us} * 1000;
  }
  [[nodiscard]] int wake_fd() const noexcept override {
    if (phase_ == phase::ready) return -1;
    return server_->state() == server_state::waiting ? listener_.get() : server_->socket();
  }

  [[nodiscard]] std::uint32_t namespace_count() const noexcept override { return spaces_.count(); }
  void close() noexcept override {
    closing_ = true;
    server_->disconnect();
  }
  [[nodiscard]] bool closed() const noexcept override {
    return server_->state() == server_state::waiting;
  }
  [[nodiscard]] bool client_left() const noexcept override { return gone_; }
  [[nodiscard]] phasebit::error last_error() const noexcept override {
    return server_->last_error();
  }
  [[nodiscard]] target_statistics counters() const noexcept override {
    return {server_->counters(), device_->work_done(), host_.interrupts.delivered(),
            host_.dma.message_bytes()};
  }
  [[nodiscard]] bool flush() noexcept override {
    bool good = true;
    for (auto& disk : disks_) {
      good = disk->flush() == phasebit::block::media_status::good && good;
    }
    return good;
  }

  void begin_hand_over() noexcept override { phase_ = phase::settling; }
  [[nodiscard]] bool ready_to_hand_over() const noexcept override { return phase_ == phase::ready; }
  [[nodiscard]] result<> hand_over(channel& to) override {
    namespace vfu = phasebit::transport::vfio_user;
    std::vector<int> fds{listener_.get()};
    for (const auto& disk : disks_) fds.push_back(disk->own_fd());
    if (const auto sent = vfu::send_record(to, vfu::record_kind::program, {}, {}, fds); !sent) {
      return sent;
    }
    if (const auto sent = device_->hand_over(to); !sent) return sent;
    return server_->hand_over(to);
  }
  void abandon_hand_over() noexcept override {
    if (phase_ == phase::pausing || phase_ == phase::ready) device_->resume();
    phase_ = phase::serving;
  }

 private:
  enum class phase : std::uint8_t { serving, settling, pausing, ready };

  target_server_of(const std::string& socket, const target_options& o,
                   std::vector<std::unique_ptr<target_disk>> disks)
      : options_(o),
        disks_(std::move(disks)),
        commands_(o.depth),
        segments_(std::size_t{o.depth} * 33),
        buffers_(std::size_t{64} << 16),
        bounce_(buffers_, 1U << 16),
        host_(static_cast<std::uint16_t>(o.queues + 1)) {
    // Two disks in one machine are two subsystems with namespaces of their own: their names follow from serial
    // number and socket, FNV-1a.
    std::uint64_t hash = 0xcbf2'9ce4'8422'2325;
    for (const char c : o.serial + '\n' + socket) {
      hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
    }
    nqn_ = "nqn.2026-11.org.phasebit:" + std::to_string(hash);
    first_eui64_ = (hash & ~std::uint64_t{0x0100'0000'0000'ffff}) | 0x0200'0000'0000'0000;
  }

  [[nodiscard]] static result<phasebit::posix::unique_fd> listen_at(const std::string& path) {
    struct ::stat about {};
    if (::lstat(path.c_str(), &about) == 0) {
      return phasebit::failure(
                 phasebit::errc::already_exists,
                 phasebit::posix::connect_unix(path)
                     ? "another process serves at this path"
                     : "the path exists already, and nothing listens there: remove it first")
          .of(path);
    }
    return phasebit::posix::listen_unix(path);
  }
  unsigned accept() noexcept {
    ::pollfd one{listener_.get(), POLLIN, 0};
    if (::poll(&one, 1, 0) <= 0) return server_->poll();
    auto client = phasebit::posix::accept_unix(listener_.get());
    if (!client) return 0;
    server_->connect(std::move(*client));
    return 1;
  }

  target_options options_;
  std::string nqn_;
  std::uint64_t first_eui64_ = 0;
  std::vector<std::unique_ptr<target_disk>> disks_;
  Spaces spaces_;
  std::vector<phasebit::nvme::device::pending_command> commands_;
  std::vector<phasebit::block::media_segment> segments_;
  std::vector<std::byte> buffers_;
  phasebit::block::bounce_pool bounce_;
  phasebit::transport::vfio_user::host host_;
  std::unique_ptr<device_type> device_;
  std::unique_ptr<server_type> server_;
  phasebit::posix::unique_fd listener_;
  std::uint64_t idle_since_ = 0;
  phase phase_ = phase::serving;
  bool closing_ = false;
  bool left_ = false;
  bool gone_ = false;
};

}  // namespace example
