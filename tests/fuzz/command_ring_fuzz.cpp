// SPDX-License-Identifier: BSL-1.0
// A driver that writes arbitrary values into its command ring and its tail, and a device that sends
// arbitrary responses: the emulated IOMMU stays inside its memory, terminates, and stops at the
// reported position.
#include <phasebit/iommu/amd/command_codec.hpp>
#include <phasebit/iommu/ats/agent.hpp>
#include <phasebit/iommu/ats/device.hpp>
#include <phasebit/iommu/ats/pri_device.hpp>
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/riscv/command_codec.hpp>
#include <phasebit/iommu/smmuv3/command_codec.hpp>
#include <phasebit/iommu/translation/iotlb.hpp>
#include <phasebit/iommu/vtd/command_codec.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <fuzz/fuzz_input.hpp>

namespace {

using namespace phasebit;
using namespace phasebit::iommu;
using phasebit_test::fuzz_input;

constexpr std::uint32_t entries = 16;

struct ring_memory {
  using from = host_space;
  using to = local_space;

  [[nodiscard]] result<segment<local_space>> translate(host_phys a, std::uint64_t bytes,
                                                       phasebit::access) noexcept {
    if (a.value() >= sizeof words) return failure(errc::not_mapped, "outside", a.value());
    const std::uint64_t left = sizeof words - a.value();
    return segment<local_space>{to_local(reinterpret_cast<std::byte*>(words.data()) + a.value()),
                                bytes < left ? bytes : left};
  }

  std::array<std::uint64_t, std::size_t{entries} * 4 + 1> words{};
};

struct unit {
  ring_memory* memory;
  iotlb<8, 2>* cache;
  ats_invalidations<2>* devices;
  ats_device<iotlb<4, 2>, 2>* device;
  std::uint64_t now = 0;

  command_outcome apply(const command& c) noexcept {
    if (c.kind == command_kind::illegal) __builtin_trap();
    if (c.by_range && c.first > c.last) __builtin_trap();
    if (invalidate_cache(*cache, c)) return command_outcome::done;
    return carry_out_for_devices(
        *devices, c, now,
        [&](const ats_invalidate& m) noexcept { static_cast<void>(device->invalidate(m)); },
        [](pcie::requester_id) noexcept {});
  }
  bool store(std::uint64_t at, std::uint64_t data, unsigned bytes) noexcept {
    return store_completion<thread_order>(*memory, at, data, bytes);
  }
  void interrupt() noexcept {}
};

// A decoded command that can be encoded again decodes to the same command.
template <class Codec>
void check_round_trip(const Codec& codec, const command_words& words) {
  const command c = codec.decode(words);
  command_words again;
  if (c.kind == command_kind::illegal || !codec.encode(c, again)) return;
  if (!(codec.decode(again) == c)) __builtin_trap();
}

template <class Codec>
void run(const Codec& codec, fuzz_input in) {
  static ring_memory memory;
  static iotlb<8, 2> cache;
  memory = {};
  ats_invalidations<2> devices{100};
  ats_device<iotlb<4, 2>, 2> device{pcie::requester_id{1, 0, 0}};
  pri_device<4> pages{pcie::requester_id{1, 0, 0}, 4};
  unit handler{&memory, &cache, &devices, &device};
  command_consumer<Codec, thread_order, ring_memory> consumer{codec, memory};
  consumer.enable(host_phys{0}, entries);
  while (in.left != 0) {
    const std::uint64_t what = in.word();
    switch (what & 7) {
      case 0:
      case 1: {
        command_words words{{in.word(), in.word(), 0, 0}};
        if ((what & 0x80) != 0) words.word[2] = in.word();
        check_round_trip(codec, words);
        const unsigned bytes = codec.entry_bytes();
        std::memcpy(
            reinterpret_cast<std::byte*>(memory.words.data()) + (what >> 8) % entries * bytes,
            words.word, bytes);
        break;
      }
      case 2:
        consumer.write_tail(static_cast<std::uint32_t>(what >> 8));
        break;
      case 3: {
        if (consumer.stopped()) consumer.resume();
        const poll_result done = consumer.poll(handler, 32);
        if (done.commands > 32 || (consumer.stopped() && done.more)) __builtin_trap();
        break;
      }
      case 4:
        static_cast<void>(devices.complete(
            {pcie::requester_id{static_cast<std::uint16_t>(what >> 8)},
             static_cast<std::uint32_t>(in.word()), static_cast<std::uint8_t>(what >> 24)}));
        handler.now += what >> 32 & 0xff;
        break;
      case 5: {
        static_cast<void>(device.request({.with_pasid = (what & 8) != 0, .pasid = 3},
                                         bus_addr{in.word()}, phasebit::access::read_write));
        static_cast<void>(device.complete({static_cast<std::uint16_t>(what >> 8),
                                           static_cast<ats_status>((what >> 24 & 7) == 7),
                                           ats_entry{in.word()}}));
        if (const auto answer = device.take_completion()) {
          static_cast<void>(devices.complete(*answer));
        }
        break;
      }
      case 6: {
        pages.enable(4);
        if (const auto group = pages.open_group()) {
          static_cast<void>(
              pages.request(*group, {}, in.word(), phasebit::access::read, (what & 8) != 0));
        }
        static_cast<void>(
            pages.respond({pcie::requester_id{1, 0, 0}, static_cast<std::uint16_t>(what >> 8 & 7),
                           static_cast<page_response_code>(what >> 16 & 15)}));
        if (pages.credits() > 4) __builtin_trap();
        break;
      }
      default:
        // Elsewhere, perhaps where there is no memory.
        consumer.enable(host_phys{what >> 8 & 0x3f8}, entries);
        break;
    }
    if (consumer.head_index() >= entries) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  if (bytes == 0) return 0;
  const fuzz_input in{data + 1, bytes - 1};
  switch (data[0] % 6) {
    case 0:
      run(vtd::command_codec{}, in);
      break;
    case 1:
      run(vtd::command_codec{.wide = true, .max_address_mask = 52}, in);
      break;
    case 2:
      run(amd::command_codec{}, in);
      break;
    case 3:
      run(smmuv3::command_codec{}, in);
      break;
    case 4:
      run(smmuv3::command_codec{.ranges = false, .stage = translation_stage::first}, in);
      break;
    default:
      run(riscv::command_codec{.wired_interrupts = true}, in);
      break;
  }
  return 0;
}
