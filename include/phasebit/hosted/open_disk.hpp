// SPDX-License-Identifier: BSL-1.0
// A disk by its name at run time: "vfio:0000:01:00.0", "mmio:0000:01:00.0", "qtest:IMAGE", "sim:" or
// "sim:IMAGE". The type of the backend is erased once, here.
#pragma once

#include <phasebit/backend/mmio_linux.hpp>
#include <phasebit/backend/qtest.hpp>
#include <phasebit/backend/simulated.hpp>
#include <phasebit/backend/vfio.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/hosted/file_media.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/nvme/driver/disk.hpp>
#include <phasebit/nvme/driver/wait.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace phasebit::hosted {

struct open_disk_options {
  std::uint32_t nsid = 1;
  std::uint32_t timeout_ms = 10'000;  // of each blocking command, its retries included
  std::uint32_t queue_depth = 128;    // of the asynchronous commands' queue
  bool read_only = false;             // write() is refused; an image is opened so
  std::size_t memory_bytes = std::size_t{64} << 20;     // for DMA, of "qtest:" and "sim:"
  std::size_t simulated_bytes = std::size_t{64} << 20;  // of the disk that "sim:" makes
  std::string qemu_namespace =
      {};  // "qtest:": properties of the namespace, such as "ms=8,mset=1,pi=1"
  backend::simulated::fault_plan faults = {};  // "sim:": what goes wrong
  nvme::driver::controller_options controller = {};
};

namespace detail {

// The operations of an open disk, whatever its backend.
class disk_interface {
 public:
  disk_interface() = default;
  disk_interface(const disk_interface&) = delete;
  disk_interface& operator=(const disk_interface&) = delete;
  virtual ~disk_interface() = default;

  using token = nvme::driver::completion_callback;

  virtual const nvme::driver::namespace_info& info() const noexcept = 0;
  virtual const nvme::identify_controller& identity() const noexcept = 0;
  virtual std::uint32_t max_transfer() const noexcept = 0;
  virtual result<> read(std::uint64_t lba, std::span<std::byte> bytes) noexcept = 0;
  virtual result<> write(std::uint64_t lba, std::span<const std::byte> bytes) noexcept = 0;
  virtual result<> read(std::uint64_t lba, std::span<std::byte> bytes,
                        std::span<std::byte> metadata) noexcept = 0;
  virtual result<> write(std::uint64_t lba, std::span<const std::byte> bytes,
                         std::span<const std::byte> metadata) noexcept = 0;
  virtual result<> flush() noexcept = 0;
  virtual result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept = 0;
  virtual void release(dma_region region) noexcept = 0;
  virtual nvme::driver::submitted submit(bool write, const nvme::block_range& range,
                                         const dma_region& data, const token& done) noexcept = 0;
  virtual nvme::driver::submitted submit_flush(const token& done) noexcept = 0;
  virtual void ring() noexcept = 0;
  virtual unsigned poll() noexcept = 0;
  virtual result<unsigned> wait(std::uint64_t milliseconds) noexcept = 0;
  virtual unsigned in_flight() const noexcept = 0;
  virtual result<> check() noexcept = 0;
  virtual result<> shut_down() noexcept = 0;
};

// `Platform` owns what the function needs and has function(). Members end in reverse order: the disk and the
// queue before the controller, and that before the function.
template <class Platform>
class open_disk_of final : public disk_interface {
  using backend = std::remove_reference_t<decltype(std::declval<Platform&>().function())>;
  using controller = nvme::driver::controller<backend>;
  using blocking = nvme::driver::disk<controller>;
  using queue = typename controller::template io_queue<>;

 public:
  explicit open_disk_of(std::unique_ptr<Platform> platform) noexcept
      : platform_(std::move(platform)) {}

  [[nodiscard]] result<> open(const open_disk_options& o) {
    auto wanted = o.controller;
    if (wanted.io_queues < 2) wanted.io_queues = 2;
    auto attached = nvme::driver::attach(platform_->function(), wanted);
    if (!attached) return attached.error();
    controller_.emplace(std::move(*attached));
    auto opened =
        nvme::driver::open_disk(*controller_, {.nsid = o.nsid, .timeout_ms = o.timeout_ms});
    if (!opened) return opened.error();
    disk_.emplace(std::move(*opened));
    const std::uint32_t deepest = controller_->capabilities().max_queue_entries();
    if (controller_->granted_queues() > 1) {
      const std::uint32_t depth = o.queue_depth < 256 ? o.queue_depth : 256;
      auto made = controller_->create_queue_pair(
          {.depth = depth < deepest ? depth : deepest, .nsid = o.nsid});
      if (!made) return made.error();
      queue_.emplace(std::move(*made));
    }
    read_only_ = o.read_only;
    return {};
  }

  const nvme::driver::namespace_info& info() const noexcept override { return disk_->info(); }
  const nvme::identify_controller& identity() const noexcept override {
    return controller_->identity();
  }
  std::uint32_t max_transfer() const noexcept override { return controller_->max_transfer(); }
  result<> read(std::uint64_t lba, std::span<std::byte> bytes) noexcept override {
    return disk_->read(lba, bytes);
  }
  result<> write(std::uint64_t lba, std::span<const std::byte> bytes) noexcept override {
    if (read_only_) return failure(errc::permission, "the disk was opened for reading only");
    return disk_->write(lba, bytes);
  }
  result<> read(std::uint64_t lba, std::span<std::byte> bytes,
                std::span<std::byte> metadata) noexcept override {
    return disk_->read(lba, bytes, metadata);
  }
  result<> write(std::uint64_t lba, std::span<const std::byte> bytes,
                 std::span<const std::byte> metadata) noexcept override {
    if (read_only_) return failure(errc::permission, "the disk was opened for reading only");
    return disk_->write(lba, bytes, metadata);
  }
  result<> flush() noexcept override { return disk_->flush(); }
  result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept override {
    return platform_->function().allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept override { platform_->function().release(region); }
  nvme::driver::submitted submit(bool write, const nvme::block_range& range, const dma_region& data,
                                 const token& done) noexcept override {
    if (!queue_) return no_queue();
    if (!write) return queue_->read(range, data, done);
    if (read_only_) {
      return nvme::driver::submitted::as_refused(errc::permission,
                                                 "the disk was opened for reading only");
    }
    return queue_->write(range, data, done);
  }
  nvme::driver::submitted submit_flush(const token& done) noexcept override {
    return queue_ ? queue_->submit(nvme::nvm::flush(info().nsid), done) : no_queue();
  }
  void ring() noexcept override {
    if (queue_) queue_->ring();
  }
  unsigned poll() noexcept override {
    controller_->poll();
    return queue_ ? queue_->poll() : 0;
  }
  result<unsigned> wait(std::uint64_t milliseconds) noexcept override {
    if (!queue_) return no_queue().as_error();
    return nvme::driver::wait(*queue_, milliseconds);
  }
  unsigned in_flight() const noexcept override { return queue_ ? queue_->in_flight() : 0; }
  result<> check() noexcept override {
    if (const auto alive = platform_->status(); !alive) return alive;
    return controller_->check();
  }
  result<> shut_down() noexcept override { return controller_->shut_down(); }

 private:
  [[nodiscard]] static nvme::driver::submitted no_queue() noexcept {
    return nvme::driver::submitted::as_refused(
        errc::exhausted, "the controller granted one queue only: blocking calls use it");
  }

  std::unique_ptr<Platform> platform_;
  std::optional<controller> controller_;
  std::optional<blocking> disk_;
  std::optional<queue> queue_;
  bool read_only_ = false;
};

// A function that needs nothing else.
template <class Function>
struct plain_platform {
  Function f;
  [[nodiscard]] Function& function() noexcept { return f; }
  [[nodiscard]] static result<> status() noexcept { return {}; }
};
struct qtest_platform {
  backend::qtest::machine machine;
  std::optional<backend::qtest::function> f = {};
  [[nodiscard]] backend::qtest::function& function() noexcept { return *f; }
  [[nodiscard]] result<> status() { return machine.status(); }
};
template <class Media>
struct simulated_platform {
  explicit simulated_platform(Media&& m, std::size_t memory_bytes)
      : media(std::move(m)), fabric({.memory_bytes = memory_bytes}) {}
  ~simulated_platform() { fabric.stop(); }

  Media media;
  backend::simulated::fabric fabric;
  std::optional<backend::simulated::nvme_disk<Media>> f;
  [[nodiscard]] backend::simulated::function& function() noexcept { return *f; }
  [[nodiscard]] static result<> status() noexcept { return {}; }
};
// Memory media with the memory.
struct owned_bytes {
  std::vector<std::byte> bytes;
};
class owning_memory_media : owned_bytes, public block::memory_media {
 public:
  explicit owning_memory_media(std::size_t size)
      : owned_bytes{std::vector<std::byte>(size)}, block::memory_media(this->bytes) {}
  owning_memory_media(owning_memory_media&& other) noexcept
      : owned_bytes{std::move(other.bytes)}, block::memory_media(this->bytes) {}
};

template <class Platform>
[[nodiscard]] result<std::unique_ptr<disk_interface>> finish_open(std::unique_ptr<Platform> p,
                                                                  const open_disk_options& o) {
  auto made = std::make_unique<open_disk_of<Platform>>(std::move(p));
  if (const auto opened = made->open(o); !opened) return opened.error();
  return std::unique_ptr<disk_interface>{std::move(made)};
}
template <class Function>
[[nodiscard]] result<std::unique_ptr<disk_interface>> open_pci(std::string_view name,
                                                               const open_disk_options& o) {
  const auto address = pcie::parse_function_address(name);
  if (!address) {
    return failure(errc::invalid_argument, "is no PCI address; write it as 0000:01:00.0").of(name);
  }
  auto function = Function::open(*address);
  if (!function) return function.error();
  return finish_open(
      std::make_unique<plain_platform<Function>>(plain_platform<Function>{std::move(*function)}),
      o);
}
template <class Media>
[[nodiscard]] result<std::unique_ptr<disk_interface>> open_simulated(Media&& media,
                                                                     const open_disk_options& o) {
  auto p = std::make_unique<simulated_platform<Media>>(std::forward<Media>(media),
                                                       (std::size_t{16} << 20) + o.memory_bytes);
  auto added = backend::simulated::add_nvme_disk(p->fabric, p->media);
  if (!added) return added.error();
  p->f.emplace(std::move(*added));
  p->f->inject(o.faults);
  if (const auto started = p->fabric.start(); !started) return started.error();
  return finish_open(std::move(p), o);
}
[[nodiscard]] inline result<std::unique_ptr<disk_interface>> open_qtest(
    std::string_view image, const open_disk_options& o) {
  if (image.empty()) {
    return failure(errc::invalid_argument,
                   "QEMU needs a disk: write qtest:IMAGE (make one with truncate -s 64M IMAGE)");
  }
  constexpr std::uint64_t mebibyte = std::uint64_t{1} << 20;
  // A property that the controller lacks makes the namespace a device of its own.
  std::vector<std::string> devices{"nvme,serial=phasebit,drive=d0"};
  if (!o.qemu_namespace.empty()) {
    devices = {"nvme,serial=phasebit,id=c0", "nvme-ns,bus=c0,drive=d0," + o.qemu_namespace};
  }
  auto machine = backend::qtest::machine::start(
      {.memory_bytes = (o.memory_bytes + 32 * mebibyte) & ~(mebibyte - 1),
       .drives = {{.id = "d0", .path = std::string{image}, .read_only = o.read_only}},
       .devices = std::move(devices)});
  if (!machine) return machine.error();
  auto p = std::make_unique<qtest_platform>(qtest_platform{std::move(*machine)});
  auto function = p->machine.open_class(0x01'08'02);
  if (!function) return function.error();
  p->f.emplace(std::move(*function));
  return finish_open(std::move(p), o);
}

}  // namespace detail

// An open disk with its controller. Blocking calls with ordinary memory; asynchronous ones with DMA memory,
// whose callbacks poll() and wait() call. Move-only; one thread at a time. The end of the object shuts the
// controller down and detaches it; buffers are released before.
class any_disk {
 public:
  explicit any_disk(std::unique_ptr<detail::disk_interface> d) noexcept : d_(std::move(d)) {}

  [[nodiscard]] const nvme::driver::namespace_info& info() const noexcept { return d_->info(); }
  [[nodiscard]] const nvme::identify_controller& identity() const noexcept {
    return d_->identity();
  }
  [[nodiscard]] std::uint32_t max_transfer() const noexcept { return d_->max_transfer(); }

  // Whole blocks; as nvme::driver::disk.
  [[nodiscard]] result<> read(std::uint64_t lba, std::span<std::byte> bytes) noexcept {
    return d_->read(lba, bytes);
  }
  [[nodiscard]] result<> write(std::uint64_t lba, std::span<const std::byte> bytes) noexcept {
    return d_->write(lba, bytes);
  }
  // The same with the metadata of all blocks, wherever the namespace keeps it.
  [[nodiscard]] result<> read(std::uint64_t lba, std::span<std::byte> bytes,
                              std::span<std::byte> metadata) noexcept {
    return d_->read(lba, bytes, metadata);
  }
  [[nodiscard]] result<> write(std::uint64_t lba, std::span<const std::byte> bytes,
                               std::span<const std::byte> metadata) noexcept {
    return d_->write(lba, bytes, metadata);
  }
  [[nodiscard]] result<> flush() noexcept { return d_->flush(); }

  // DMA memory; a model of DmaMemory, so that phasebit::allocate() gives a buffer with an owner.
  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return d_->allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { d_->release(region); }

  // As those of nvme::driver::queue_pair, for the disk's namespace.
  nvme::driver::submitted read(const nvme::block_range& range, const dma_region& data,
                               const nvme::driver::completion_callback& done) noexcept {
    return d_->submit(false, range, data, done);
  }
  nvme::driver::submitted write(const nvme::block_range& range, const dma_region& data,
                                const nvme::driver::completion_callback& done) noexcept {
    return d_->submit(true, range, data, done);
  }
  nvme::driver::submitted flush(const nvme::driver::completion_callback& done) noexcept {
    return d_->submit_flush(done);
  }
  void ring() noexcept { d_->ring(); }
  unsigned poll() noexcept { return d_->poll(); }
  [[nodiscard]] result<unsigned> wait(std::uint64_t milliseconds) noexcept {
    return d_->wait(milliseconds);
  }
  [[nodiscard]] unsigned in_flight() const noexcept { return d_->in_flight(); }

  // Whether the device, or the process that plays it, is there and well.
  [[nodiscard]] result<> check() noexcept { return d_->check(); }
  // Ends the disk's queues and notifies the controller (CC.SHN); an error where it does not answer.
  [[nodiscard]] result<> shut_down() noexcept { return d_->shut_down(); }

 private:
  std::unique_ptr<detail::disk_interface> d_;
};
static_assert(DmaMemory<any_disk>);

// Opens a disk by name. Errors: invalid_argument where the name is none of the forms above, and what the
// backend and the controller answer.
[[nodiscard]] inline result<any_disk> open_disk(std::string_view name,
                                                const open_disk_options& options = {}) {
  const auto colon = name.find(':');
  const std::string_view scheme = name.substr(0, colon == name.npos ? 0 : colon);
  const std::string_view remaining = colon == name.npos ? name : name.substr(colon + 1);
  const auto opened = [&]() -> result<std::unique_ptr<detail::disk_interface>> {
    if (scheme == "vfio") return detail::open_pci<backend::vfio::function>(remaining, options);
    if (scheme == "mmio")
      return detail::open_pci<backend::mmio_linux::function>(remaining, options);
    if (scheme == "qtest") return detail::open_qtest(remaining, options);
    if (scheme == "sim" && remaining.empty()) {
      return detail::open_simulated(detail::owning_memory_media{options.simulated_bytes}, options);
    }
    if (scheme == "sim") {
      auto media = file_media::open(std::string{remaining}, {.read_only = options.read_only});
      if (!media) return media.error();
      return detail::open_simulated(std::move(*media), options);
    }
    return failure(errc::invalid_argument,
                   "names no disk; write vfio:0000:01:00.0, mmio:0000:01:00.0, qtest:IMAGE or sim:")
        .of(name);
  };
  auto made = opened();
  if (!made) return made.error();
  return any_disk{std::move(*made)};
}

}  // namespace phasebit::hosted
