// SPDX-License-Identifier: BSL-1.0
// The disks of nvme_target: files and memory, whole or divided into namespaces.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/hosted/file_media.hpp>
#include <phasebit/hosted/threaded_media.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/unique_fd.hpp>

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
};

// A file or block device, locked for this process, or memory that is zero at first. One BlockMedia for both.
class target_disk {
 public:
  // `where` is file:PATH or mem:SIZE, with a size like 64M or 1G. Errors name the disk: invalid_argument,
  // not_found, permission, busy (another process uses the image), out_of_range.
  [[nodiscard]] static phasebit::result<std::unique_ptr<target_disk>> open(
      const std::string& where, const target_disk_options& options) {
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
      auto memory =
          phasebit::posix::memory_mapping::anonymous(phasebit::int_cast<std::size_t>(*bytes));
      if (!memory) return memory.error().of(where);
      made->memory_ = std::move(*memory);
      made->in_memory_.emplace(made->memory_.bytes(), options.block_size);
      made->read_only_ = options.read_only;
      return made;
    }
    if (!where.starts_with("file:")) {
      return failure(errc::invalid_argument, "is neither file:PATH nor mem:SIZE").of(where);
    }
    const std::string path = where.substr(5);
    auto file = phasebit::hosted::file_media::open(
        path, {.block_size = options.block_size, .read_only = options.read_only});
    if (!file) return file.error();
    auto lock = phasebit::posix::open_file(path.c_str(), options.read_only ? O_RDONLY : O_RDWR);
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
    made->lock_ = std::move(*lock);
    made->in_file_.emplace(std::move(*file));
    made->read_only_ = options.read_only;
    return made;
  }

  [[nodiscard]] std::uint32_t block_size() const noexcept {
    return in_file_ ? in_file_->block_size() : in_memory_->block_size();
  }
  [[nodiscard]] std::uint64_t block_count() const noexcept {
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

  phasebit::posix::unique_fd lock_;
  phasebit::posix::memory_mapping memory_;
  std::optional<phasebit::hosted::file_media> in_file_;
  std::optional<phasebit::block::memory_media> in_memory_;
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

// A namespace's media: executed by threads, or at once where there are none.
class target_media {
 public:
  target_media(const disk_part& part, unsigned threads, std::function<void()> notify)
      : part_(part), direct_(part_) {
    if (threads != 0) {
      pool_.emplace(part_, phasebit::hosted::threaded_media_options{.threads = threads,
                                                                    .notify = std::move(notify)});
    }
  }
  target_media(const target_media&) = delete;
  target_media& operator=(const target_media&) = delete;

  [[nodiscard]] disk_part& part() noexcept { return part_; }
  [[nodiscard]] std::uint32_t block_size() const noexcept { return part_.block_size(); }
  [[nodiscard]] std::uint64_t block_count() const noexcept { return part_.block_count(); }
  [[nodiscard]] bool read_only() const noexcept { return part_.read_only(); }
  [[nodiscard]] phasebit::block::media_answer submit(const phasebit::block::media_request& request,
                                                     phasebit::block::media_tag tag) noexcept {
    return pool_ ? pool_->submit(request, tag) : direct_.submit(request, tag);
  }
  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    return pool_ ? pool_->poll(sink) : 0;
  }
  void cancel(phasebit::block::media_tag tag) noexcept {
    if (pool_) pool_->cancel(tag);
  }
  [[nodiscard]] bool drained() const noexcept { return !pool_ || pool_->drained(); }
  [[nodiscard]] bool reaches(phasebit::memory_domain domain) const noexcept {
    return domain == phasebit::memory_domain::local;
  }

 private:
  using pool = phasebit::hosted::threaded_media<disk_part>;

  disk_part part_;
  phasebit::block::immediate_media<disk_part> direct_;
  std::optional<pool> pool_;
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

 private:
  std::vector<std::unique_ptr<target_media>> media_;
};

}  // namespace example
