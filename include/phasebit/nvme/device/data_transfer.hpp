// SPDX-License-Identifier: BSL-1.0
// A command's data in the host's memory: found by its PRPs or SGL, segment by segment, and never
// beyond the bytes that the command is for.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/dma_access.hpp>
#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/prp/walk.hpp>
#include <phasebit/nvme/sgl/walk.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::nvme::device {

// More descriptors than any driver writes for a transfer of MDTS, and few enough to bound the work.
inline constexpr std::uint32_t max_sgl_descriptors = 4096;

// A visitor returns this to end a walk early and successfully. No command ends with it.
inline constexpr auto walk_finished = status_code{0x7ff};

// Walks one command's data pointer. The host may change lists and data meanwhile: each list entry is
// read once, and what it names is validated before it is used.
template <AnyDma Dma>
class data_transfer {
 public:
  data_transfer(Dma& dma, const submission_entry& command, unsigned page_shift) noexcept
      : dma_(&dma), command_(&command), page_shift_(page_shift) {}

  // Calls each(bus_addr, bytes) for the segments of the data, in order, together `bytes` long, and
  // each.skip(bytes), if it exists, for bit buckets. A visitor returns success, walk_finished, or
  // the status that ends the command. PRPs and SGLs are refused as prp::walk and sgl::walk
  // document; segments before a fault have been visited.
  template <class Each>
  [[nodiscard]] status_code for_each_range(std::uint64_t bytes, access wanted,
                                           Each&& each) noexcept {
    list_access<Dma> lists{*dma_};
    // PRP1 and SGL lengths can reach past the end of the address space.
    const auto range = [&](bus_addr at, std::uint64_t count) noexcept {
      if (!range_end(at, count)) [[unlikely]]
        return status_code::data_transfer_error;
      return each(at, count);
    };
    status_code ended = status_code::success;
    if (command_->psdt() == data_pointer::prp) {
      ended = prp::walk(lists, {command_->prp1, command_->prp2}, bytes, page_shift_, range);
    } else {
      const sgl::limits allowed{.wanted = wanted,
                                .max_descriptors = max_sgl_descriptors,
                                .longer_than_data = true,
                                .dword_granularity = false};
      ended = sgl::walk(lists, command_->sgl(), bytes, allowed, range,
                        [&](std::uint64_t count) noexcept {
                          if constexpr (requires { each.skip(count); }) {
                            return each.skip(count);
                          } else {
                            return status_code::sgl_descriptor_type_invalid;
                          }
                        });
    }
    return ended == walk_finished ? status_code::success : ended;
  }

  // Calls each(std::span<std::byte>) for the data as local memory, in parts of any length. Memory
  // without pointers is copied through a small buffer, before the call if it is read and after it
  // if it is written. Data Transfer Error where memory cannot be reached.
  template <class Each>
  [[nodiscard]] status_code for_each(std::uint64_t bytes, access wanted, Each&& each) noexcept {
    return for_each_range(bytes, wanted, local_visitor<Each>{dma_, wanted, each});
  }

  // The bytes [offset, offset + data.size()) of data that is `bytes` long. No other byte of the host is
  // accessed.
  [[nodiscard]] status_code to_host(std::uint64_t bytes, std::uint64_t offset,
                                    std::span<const std::byte> data) noexcept {
    return for_each_range(bytes, access::write,
                          part_of_data<copying<copy_out>, const std::byte>{{dma_}, offset, data});
  }
  [[nodiscard]] status_code from_host(std::uint64_t bytes, std::uint64_t offset,
                                      std::span<std::byte> data) noexcept {
    return for_each_range(bytes, access::read,
                          part_of_data<copying<copy_in>, std::byte>{{dma_}, offset, data});
  }
  // Begins the same through a port that completes later. The port delivers `tag` as many times as
  // `pending` counts. `data` must not change until then, whatever the status.
  struct begun {
    status_code status = status_code::success;
    std::uint32_t pending = 0;
  };
  [[nodiscard]] begun start_to_host(std::uint64_t bytes, std::uint64_t offset,
                                    std::span<const std::byte> data, dma_tag tag) noexcept
    requires AsyncDmaPort<Dma>
  {
    return start(bytes, access::write, starting<const std::byte>{dma_, tag}, offset, data);
  }
  [[nodiscard]] begun start_from_host(std::uint64_t bytes, std::uint64_t offset,
                                      std::span<std::byte> data, dma_tag tag) noexcept
    requires AsyncDmaPort<Dma>
  {
    return start(bytes, access::read, starting<std::byte>{dma_, tag}, offset, data);
  }
  // Whether those bytes equal `data`: Compare Failure where not.
  [[nodiscard]] status_code compare(std::uint64_t bytes, std::uint64_t offset,
                                    std::span<const std::byte> data) noexcept {
    return for_each_range(bytes, access::read,
                          part_of_data<copying<compare_in>, const std::byte>{{dma_}, offset, data});
  }
  // All of it.
  [[nodiscard]] status_code to_host(std::span<const std::byte> data) noexcept {
    return to_host(data.size(), 0, data);
  }
  [[nodiscard]] status_code from_host(std::span<std::byte> data) noexcept {
    return from_host(data.size(), 0, data);
  }

 private:
  // The operations of copying<>: on memory that has pointers, and through a port for memory that
  // has none.
  struct copy_out {
    static constexpr access wanted = access::write;
    static status_code local(std::span<std::byte> host, std::span<const std::byte> mine) noexcept {
      copy_shared(host, mine);
      return status_code::success;
    }
    template <DmaPort Port>
    static status_code remote(Port& dma, bus_addr at, std::span<const std::byte> mine) noexcept {
      return dma.write(at, mine) ? status_code::success : status_code::data_transfer_error;
    }
  };
  struct copy_in {
    static constexpr access wanted = access::read;
    static status_code local(std::span<std::byte> host, std::span<std::byte> mine) noexcept {
      copy_shared(mine, host);
      return status_code::success;
    }
    template <DmaPort Port>
    static status_code remote(Port& dma, bus_addr at, std::span<std::byte> mine) noexcept {
      return dma.read(at, mine) ? status_code::success : status_code::data_transfer_error;
    }
  };
  struct compare_in {
    static constexpr access wanted = access::read;
    static status_code local(std::span<std::byte> host, std::span<const std::byte> mine) noexcept {
      return __builtin_memcmp(host.data(), mine.data(), mine.size()) == 0
                 ? status_code::success
                 : status_code::compare_failure;
    }
    template <DmaPort Port>
    static status_code remote(Port& dma, bus_addr at, std::span<const std::byte> mine) noexcept {
      std::array<std::byte, 512> copy;
      while (!mine.empty()) {
        const auto part =
            std::span{copy}.first(mine.size() < copy.size() ? mine.size() : copy.size());
        if (!dma.read(at, part)) return status_code::data_transfer_error;
        const status_code same = local(part, mine.first(part.size()));
        if (same != status_code::success) return same;
        at += part.size();
        mine = mine.subspan(part.size());
      }
      return status_code::success;
    }
  };

  // Transfers with move(at, mine, moved), which moves at least one byte between `mine` and the
  // memory at `at` and sets `moved` to the number of bytes.
  template <class Move>
  struct copying {
    Dma* dma;

    template <class Byte>
    PHASEBIT_ALWAYS_INLINE status_code operator()(bus_addr at, std::span<Byte> mine,
                                                  std::uint64_t& moved) const noexcept {
      local_addr local{};
      if constexpr (DmaTranslator<Dma>) {
        const auto segment = dma->translate(at, mine.size(), Move::wanted);
        if (!segment || segment->bytes == 0 || segment->bytes > mine.size()) {
          return status_code::data_transfer_error;
        }
        moved = segment->bytes;
        local = segment->begin;
      } else {
        const auto range = map_dma(*dma, at, mine.size(), Move::wanted);
        if (!range) return status_code::data_transfer_error;
        moved = range->bytes;
        if (range->domain != memory_domain::local) {
          return Move::remote(*dma, at, mine.first(int_cast<std::size_t>(moved)));
        }
        local = local_addr{range->address};
      }
      const auto count = int_cast<std::size_t>(moved);
      return Move::local(std::span{pointer_of(local), count}, mine.first(count));
    }
  };
  template <class Byte>
  struct starting {
    Dma* dma;
    dma_tag tag;
    std::uint32_t pending = 0;

    status_code operator()(bus_addr at, std::span<Byte> mine, std::uint64_t& moved) noexcept {
      result<dma_started> begun = [&]() noexcept {
        if constexpr (std::is_const_v<Byte>) {
          return dma->start_write(at, mine, tag);
        } else {
          return dma->start_read(at, mine, tag);
        }
      }();
      if (!begun) return status_code::data_transfer_error;
      if (begun->pending) ++pending;
      if (begun->bytes == 0 || begun->bytes > mine.size()) return status_code::data_transfer_error;
      moved = begun->bytes;
      return status_code::success;
    }
  };

  // Moves the part of the data that begins `offset` bytes in and is as long as `data`, and ends the
  // walk behind it.
  template <class Move, class Byte>
  class part_of_data {
   public:
    part_of_data(Move move, std::uint64_t offset, std::span<Byte> data) noexcept
        : move_(move), before_(offset), mine_(data) {}

    status_code operator()(bus_addr at, std::uint64_t bytes) noexcept {
      const std::uint64_t skipped = before_ < bytes ? before_ : bytes;
      before_ -= skipped;
      at += skipped;
      bytes -= skipped;
      while (bytes != 0 && !mine_.empty()) {
        const std::uint64_t most = bytes < mine_.size() ? bytes : mine_.size();
        std::uint64_t moved = 0;
        const status_code done = move_(at, mine_.first(int_cast<std::size_t>(most)), moved);
        if (done != status_code::success) return done;
        mine_ = mine_.subspan(int_cast<std::size_t>(moved));
        at += moved;
        bytes -= moved;
      }
      return mine_.empty() ? walk_finished : status_code::success;
    }
    status_code skip(std::uint64_t bytes) noexcept {
      const std::uint64_t unused = before_ < bytes ? before_ : bytes;
      before_ -= unused;
      bytes -= unused;
      const std::size_t count = bytes < mine_.size() ? int_cast<std::size_t>(bytes) : mine_.size();
      mine_ = mine_.subspan(count);
      return mine_.empty() ? walk_finished : status_code::success;
    }
    [[nodiscard]] const Move& move() const noexcept { return move_; }

   private:
    Move move_;
    std::uint64_t before_;
    std::span<Byte> mine_;
  };
  template <class Byte>
  [[nodiscard]] begun start(std::uint64_t bytes, access wanted, starting<Byte> how,
                            std::uint64_t offset, std::span<Byte> data) noexcept {
    part_of_data<starting<Byte>, Byte> part{how, offset, data};
    const status_code status = for_each_range(bytes, wanted, part);
    return {status, part.move().pending};
  }

  template <class Each>
  struct local_visitor {
    Dma* dma;
    access wanted;
    Each& each;

    status_code operator()(bus_addr at, std::uint64_t bytes) noexcept {
      while (bytes != 0) {
        std::uint64_t passed = 0;
        const status_code done = next(at, bytes, passed);
        if (done != status_code::success) return done;
        at += passed;
        bytes -= passed;
      }
      return status_code::success;
    }
    status_code skip(std::uint64_t bytes) noexcept
      requires requires(Each& e) { e.skip(std::uint64_t{}); }
    {
      return each.skip(bytes);
    }

   private:
    PHASEBIT_ALWAYS_INLINE status_code next(bus_addr at, std::uint64_t bytes,
                                            std::uint64_t& passed) noexcept {
      local_addr local{};
      if constexpr (DmaTranslator<Dma>) {
        const auto segment = dma->translate(at, bytes, wanted);
        if (!segment || segment->bytes == 0 || segment->bytes > bytes) {
          return status_code::data_transfer_error;
        }
        passed = segment->bytes;
        local = segment->begin;
      } else {
        const auto range = map_dma(*dma, at, bytes, wanted);
        if (!range) return status_code::data_transfer_error;
        passed = range->bytes;
        if (range->domain != memory_domain::local) return through_copy(at, passed);
        local = local_addr{range->address};
      }
      return each(std::span{pointer_of(local), int_cast<std::size_t>(passed)});
    }
    status_code through_copy(bus_addr at, std::uint64_t& passed) noexcept {
      if constexpr (DmaPort<Dma>) {
        std::array<std::byte, 512> copy;
        if (passed > copy.size()) passed = copy.size();
        const auto bytes = std::span{copy}.first(int_cast<std::size_t>(passed));
        if (reads(wanted) && !dma->read(at, bytes)) return status_code::data_transfer_error;
        const status_code done = each(bytes);
        if (done != status_code::success && done != walk_finished) return done;
        if (writes(wanted) && !dma->write(at, bytes)) return status_code::data_transfer_error;
        return done;
      }
      return status_code::data_transfer_error;
    }
  };

  Dma* dma_;
  const submission_entry* command_;
  unsigned page_shift_;
};

}  // namespace phasebit::nvme::device
