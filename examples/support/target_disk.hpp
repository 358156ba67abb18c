// SPDX-License-Identifier: BSL-1.0
// The disks of nvme_target: files, memory and NVMe disks behind our driver, whole or divided into namespaces.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/hosted/disk_media.hpp>
#include <phasebit/hosted/file_media.hpp>
#include <phasebit/hosted/open_disk.hpp>
#include <phasebit/hosted/threaded_media.hpp>
#include <phasebit/hosted/uring_media.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace example {

struct target_disk_options {
  std::uint32_t block_size = 512;
  bool read_only = false;
  // The disk's own_fd() in a process that hands it over: the lock of its file, or its memory.
  phasebit::posix::unique_fd taken{};
};

// A file or block device, locked for this process; memory that is zero at first; or an NVMe disk. One
// BlockMedia for the first two.
class target_disk {
 public:
  // `where` is file:PATH (threads), uring:PATH (io_uring), mem:SIZE with a size like 64M or 1G, or a name of
  // hosted::open_disk (vfio:, mmio:, qtest:, sim:); nvme: is another word for vfio:. Errors name the disk:
  // invalid_argument, not_supported, not_found, permission, busy (another process uses the image),
  // out_of_range.
  [[nodiscard]] static phasebit::result<std::unique_ptr<target_disk>> open(
      const std::string& where, target_disk_options options) {
    using phasebit::errc;
    using phasebit::failure;
    std::unique_ptr<target_disk> made{new target_disk};
    if (where.starts_with("mem:")) {
      const auto bytes = parse_size(std::string_view{where}.substr(4));
      if (!bytes || *bytes == 0 || *bytes % options.block_size != 0) {
        return failure(errc::invalid_argument,
                       "is no size in whole blocks, such as mem:64M or mem:1G")
            .of(where);
      }
      // A file without a name, so that another process can take it over.
      made->own_ = std::move(options.taken);
      if (!made->own_) {
        made->own_ = phasebit::posix::unique_fd{::memfd_create("nvme_target", MFD_CLOEXEC)};
        if (!made->own_ || ::ftruncate(made->own_.get(), static_cast<::off_t>(*bytes)) != 0) {
          return phasebit::posix::os_error("there is no memory for the disk").of(where);
        }
      }
      auto memory = phasebit::posix::memory_mapping::shared(
          made->own_.get(), phasebit::int_cast<std::size_t>(*bytes));
      if (!memory) return memory.error().of(where);
      made->memory_ = std::move(*memory);
      made->in_memory_.emplace(made->memory_.bytes(), options.block_size);
      made->read_only_ = options.read_only;
      return made;
    }
    for (const std::string_view scheme : {"nvme:", "vfio:", "mmio:", "qtest:", "sim:"}) {
      if (!where.starts_with(scheme)) continue;
      const std::string name = scheme == "nvme:" ? "vfio:" + where.substr(5) : where;
      auto disk = phasebit::hosted::open_disk(name, {.read_only = options.read_only});
      if (!disk) return disk.error();
      if (disk->info().block_bytes != options.block_size) {
        return failure(errc::invalid_argument, "the disk has another block size than --block-size",
                       disk->info().block_bytes)
            .of(where);
      }
      made->nvme_.emplace(std::move(*disk));
      made->read_only_ = options.read_only;
      return made;
    }
    made->by_uring_ = where.starts_with("uring:");
    if (!made->by_uring_ && !where.starts_with("file:")) {
      return failure(
                 errc::invalid_argument,
                 "is none of file:PATH, uring:PATH, mem:SIZE, vfio:BDF, mmio:BDF and qtest:IMAGE")
          .of(where);
    }
    const std::string path = where.substr(where.find(':') + 1);
    auto file = phasebit::hosted::file_media::open(
        path, {.block_size = options.block_size, .read_only = options.read_only});
    if (!file) return file.error();
    phasebit::result<phasebit::posix::unique_fd> lock =
        options.taken
            ? phasebit::result<phasebit::posix::unique_fd>{std::move(options.taken)}
            : phasebit::posix::open_file(path.c_str(), options.read_only ? O_RDONLY : O_RDWR);
    if (!lock) return lock.error();
    const ::off_t end = ::lseek(lock->get(), 0, SEEK_END);
    if (end < 0 || static_cast<std::uint64_t>(end) % options.block_size != 0) {
      return failure(errc::invalid_argument,
                     "the image is not a whole number of blocks; its size in bytes is",
                     static_cast<std::uint64_t>(end))
          .of(path);
    }
    // A lock of the open file, as QEMU takes for its images.
    struct ::flock whole {};
    whole.l_type = options.read_only ? F_RDLCK : F_WRLCK;
    whole.l_whence = SEEK_SET;
    if (::fcntl(lock->get(), F_OFD_SETLK, &whole) != 0) {
      if (errno == EAGAIN || errno == EACCES) {
        return failure(errc::busy, "the image is in use by another process").of(path);
      }
      return phasebit::posix::os_error("the image cannot be locked").of(path);
    }
    made->own_ = std::move(*lock);
    made->path_ = path;
    made->in_file_.emplace(std::move(*file));
    made->read_only_ = options.read_only;
    return made;
  }

  // An NVMe disk, or null; the other members are for other disks.
  [[nodiscard]] phasebit::hosted::any_disk* nvme() noexcept { return nvme_ ? &*nvme_ : nullptr; }
  // The descriptor by which another process opens the same disk; -1 for an NVMe disk, which cannot be handed over.
  [[nodiscard]] int own_fd() const noexcept { return own_.get(); }
  // Of a file.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  // The file again, for one io_uring.
  [[nodiscard]] bool by_uring() const noexcept { return by_uring_; }
  [[nodiscard]] phasebit::result<phasebit::hosted::file_media> open_again() const {
    return phasebit::hosted::file_media::open(
        path_, {.block_size = in_file_->block_size(), .read_only = read_only_});
  }

  [[nodiscard]] std::uint32_t block_size() const noexcept {
    if (nvme_) return nvme_->info().block_bytes;
    return in_file_ ? in_file_->block_size() : in_memory_->block_size();
  }
  [[nodiscard]] std::uint64_t block_count() const noexcept {
    if (nvme_) return nvme_->info().blocks;
    return in_file_ ? in_file_->block_count() : in_memory_->block_count();
  }
  [[nodiscard]] bool read_only() const noexcept { return read_only_; }
  [[nodiscard]] bool in_memory() const noexcept { return in_memory_.has_value(); }

  [[nodiscard]] phasebit::block::media_status read(std::uint64_t lba,
                                                   std::span<std::byte> to) noexcept {
    return in_file_ ? in_file_->read(lba, to) : in_memory_->read(lba, to);
  }
  [[nodiscard]] phasebit::block::media_status write(std::uint64_t lba,
                                                    std::span<const std::byte> from) noexcept {
    if (read_only_) return phasebit::block::media_status::read_only;
    return in_file_ ? in_file_->write(lba, from) : in_memory_->write(lba, from);
  }
  [[nodiscard]] phasebit::block::media_status flush() noexcept {
    if (nvme_) {
      return nvme_->flush() ? phasebit::block::media_status::good
                            : phasebit::block::media_status::write_failed;
    }
    return in_file_ ? in_file_->flush() : in_memory_->flush();
  }
  [[nodiscard]] phasebit::block::media_status trim(std::uint64_t lba,
                                                   std::uint64_t blocks) noexcept {
    if (read_only_) return phasebit::block::media_status::read_only;
    return in_file_ ? in_file_->trim(lba, blocks) : in_memory_->trim(lba, blocks);
  }
  [[nodiscard]] phasebit::block::media_status write_zeroes(std::uint64_t lba,
                                                           std::uint64_t blocks) noexcept {
    if (read_only_) return phasebit::block::media_status::read_only;
    return in_file_ ? in_file_->write_zeroes(lba, blocks) : in_memory_->write_zeroes(lba, blocks);
  }

 private:
  target_disk() = default;

  [[nodiscard]] static std::optional<std::uint64_t> parse_size(std::string_view text) noexcept {
    std::uint64_t value = 0;
    std::size_t used = 0;
    while (used != text.size() && text[used] >= '0' && text[used] <= '9' && used != 10) {
      value = value * 10 + static_cast<std::uint64_t>(text[used++] - '0');
    }
    if (used == 0) return {};
    const std::string_view suffix = text.substr(used);
    if (suffix.empty()) return value;
    if (suffix == "K") return value << 10;
    if (suffix == "M") return value << 20;
    if (suffix == "G") return value << 30;
    return {};
  }

  phasebit::posix::unique_fd own_;  // the lock, or the memory
  phasebit::posix::memory_mapping memory_;
  std::optional<phasebit::hosted::file_media> in_file_;
  std::optional<phasebit::block::memory_media> in_memory_;
  std::optional<phasebit::hosted::any_disk> nvme_;
  std::string path_;
  bool by_uring_ = false;
  bool read_only_ = false;
};
static_assert(phasebit::block::TrimmableMedia<target_disk>);
static_assert(phasebit::block::ZeroableMedia<target_disk>);
static_assert(phasebit::block::ProtectableMedia<target_disk>);

// Blocks [first, first + count) of a disk.
class disk_part {
 public:
  disk_part(target_disk& disk, std::uint64_t first, std::uint64_t count) noexcept
      : disk_(&disk), first_(first), count_(count) {}

  [[nodiscard]] std::uint32_t block_size() const noexcept { return disk_->block_size(); }
  [[nodiscard]] std::uint64_t block_count() const noexcept { return count_; }
  [[nodiscard]] bool read_only() const noexcept { return disk_->read_only(); }
  [[nodiscard]] phasebit::block::media_status read(std::uint64_t lba,
                                                   std::span<std::byte> to) noexcept {
    return within(lba, to.size() / block_size()) ? disk_->read(first_ + lba, to) : outside;
  }
  [[nodiscard]] phasebit::block::media_status write(std::uint64_t lba,
                                                    std::span<const std::byte> from) noexcept {
    return within(lba, from.size() / block_size()) ? disk_->write(first_ + lba, from) : outside;
  }
  [[nodiscard]] phasebit::block::media_status flush() noexcept { return disk_->flush(); }
  [[nodiscard]] phasebit::block::media_status trim(std::uint64_t lba,
                                                   std::uint64_t blocks) noexcept {
    return within(lba, blocks) ? disk_->trim(first_ + lba, blocks) : outside;
  }
  [[nodiscard]] phasebit::block::media_status write_zeroes(std::uint64_t lba,
                                                           std::uint64_t blocks) noexcept {
    return within(lba, blocks) ? disk_->write_zeroes(first_ + lba, blocks) : outside;
  }

 private:
  static constexpr auto outside = phasebit::block::media_status::out_of_range;
  [[nodiscard]] bool within(std::uint64_t lba, std::uint64_t blocks) const noexcept {
    return lba <= count_ && blocks <= count_ - lba;
  }

  target_disk* disk_;
  std::uint64_t first_;
  std::uint64_t count_;
};

// A namespace's media: executed by threads, by io_uring, by an NVMe disk, or at once.
class target_media {
  // Calls use(media, whether its blocks are those of the whole disk).
  template <class Use>
  auto with(Use&& use) noexcept {
    if (nvme_) return use(*nvme_, true);
#if __has_include(<liburing.h>)
    if (uring_) return use(*uring_, true);
#endif
    return pool_ ? use(*pool_, false) : use(direct_, false);
  }

 public:
  // `notify` is called by threads when an operation has ended. Errors: those of the kinds of media.
  [[nodiscard]] static phasebit::result<std::unique_ptr<target_media>> make(
      target_disk& disk, std::uint64_t first, std::uint64_t count, unsigned threads,
      std::function<void()> notify) {
    std::unique_ptr<target_media> made{new target_media{disk, first, count}};
    if (phasebit::hosted::any_disk* const nvme = disk.nvme(); nvme != nullptr) {
      auto media = phasebit::hosted::disk_media::make(*nvme, {.read_only = disk.read_only()});
      if (!media) return media.error();
      made->nvme_.emplace(std::move(*media));
    } else if (disk.by_uring()) {
#if __has_include(<liburing.h>)
      auto file = disk.open_again();
      if (!file) return file.error();
      auto media = phasebit::hosted::uring_media::make(std::move(*file));
      if (!media) return media.error();
      made->uring_.emplace(std::move(*media));
#else
      return phasebit::failure(phasebit::errc::not_supported,
                               "uring: this program was built without liburing");
#endif
    } else if (threads != 0 && !disk.in_memory()) {
      made->pool_.emplace(made->part_, phasebit::hosted::threaded_media_options{
                                           .threads = threads, .notify = std::move(notify)});
    }
    return made;
  }
  target_media(const target_media&) = delete;
  target_media& operator=(const target_media&) = delete;

  [[nodiscard]] std::uint32_t block_size() const noexcept { return part_.block_size(); }
  [[nodiscard]] std::uint64_t block_count() const noexcept { return part_.block_count(); }
  [[nodiscard]] bool read_only() const noexcept { return part_.read_only(); }
  // Whether operations are in flight of which only poll() finds out that they have ended.
  [[nodiscard]] bool has_to_be_polled() const noexcept { return !pool_ && !drained(); }
  [[nodiscard]] phasebit::block::media_answer submit(const phasebit::block::media_request& request,
                                                     phasebit::block::media_tag tag) noexcept {
    return with([&](auto& media, bool whole_disk) noexcept {
      if (!whole_disk) return media.submit(request, tag);
      if (request.operation != phasebit::block::media_operation::flush &&
          !phasebit::block::in_range(*this, request.lba, request.blocks)) {
        return phasebit::block::media_answer::done(phasebit::block::media_status::out_of_range);
      }
      auto moved = request;
      moved.lba += first_;
      return media.submit(moved, tag);
    });
  }
  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    return with([&](auto& media, bool) noexcept { return media.poll(sink); });
  }
  void cancel(phasebit::block::media_tag tag) noexcept {
    with([&](auto& media, bool) noexcept { media.cancel(tag); });
  }
  [[nodiscard]] bool drained() const noexcept {
    return const_cast<target_media*>(this)->with(
        [](auto& media, bool) noexcept { return media.drained(); });
  }
  [[nodiscard]] bool reaches(phasebit::memory_domain domain) const noexcept {
    return domain == phasebit::memory_domain::local;
  }

 private:
  using pool = phasebit::hosted::threaded_media<disk_part>;

  target_media(target_disk& disk, std::uint64_t first, std::uint64_t count) noexcept
      : part_(disk, first, count), direct_(part_), first_(first) {}

  disk_part part_;
  phasebit::block::immediate_media<disk_part> direct_;
  std::uint64_t first_;
  std::optional<pool> pool_;
  std::optional<phasebit::hosted::disk_media> nvme_;
#if __has_include(<liburing.h>)
  std::optional<phasebit::hosted::uring_media> uring_;
#endif
};
static_assert(phasebit::block::AsyncBlockMedia<target_media>);

// Namespaces 1 to n.
class target_namespaces {
 public:
  using media_type = target_media;

  void add(std::unique_ptr<target_media> media) { media_.push_back(std::move(media)); }
  [[nodiscard]] target_media* find(std::uint32_t nsid) noexcept {
    return nsid >= 1 && nsid <= media_.size() ? media_[nsid - 1].get() : nullptr;
  }
  [[nodiscard]] std::uint32_t highest_nsid() const noexcept {
    return static_cast<std::uint32_t>(media_.size());
  }
  template <class Visit>
  void for_each_media(Visit&& visit) noexcept {
    for (auto& media : media_) visit(*media);
  }
  [[nodiscard]] bool any_to_poll() const noexcept {
    return std::ranges::any_of(media_, [](const auto& m) { return m->has_to_be_polled(); });
  }

 private:
  std::vector<std::unique_ptr<target_media>> media_;
};

}  // namespace example
