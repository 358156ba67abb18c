// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/amd/command_codec.hpp>
#include <phasebit/iommu/ats/agent.hpp>
#include <phasebit/iommu/ats/device.hpp>
#include <phasebit/iommu/ats/pri_device.hpp>
#include <phasebit/iommu/ats/pri_queue.hpp>
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/command_queue/producer.hpp>
#include <phasebit/iommu/riscv/command_codec.hpp>
#include <phasebit/iommu/smmuv3/command_codec.hpp>
#include <phasebit/iommu/translation/iotlb.hpp>
#include <phasebit/iommu/vtd/command_codec.hpp>

#include <cstddef>
#include <cstdint>

using namespace phasebit;
using namespace phasebit::iommu;

namespace {

alignas(4096) constinit std::byte ring[4096]{};
alignas(8) constinit le<std::uint32_t> done_word[2]{};
constinit iotlb<4, 2> cache{};

struct tail_register {
  std::uint32_t* at;
  void ring(std::uint32_t value) noexcept { mmio_store<std::uint32_t>(at, value); }
};
struct head_register {
  const std::uint32_t* at;
  [[nodiscard]] std::uint32_t load() noexcept { return mmio_load<std::uint32_t>(at); }
};

struct ring_memory {
  using from = host_space;
  using to = local_space;
  [[nodiscard]] result<segment<local_space>> translate(host_phys a, std::uint64_t bytes,
                                                       phasebit::access) noexcept {
    if (a.value() >= sizeof ring || bytes > sizeof ring - a.value()) {
      return failure(errc::not_mapped, "outside the ring", a.value());
    }
    return segment<local_space>{to_local(ring + a.value()), bytes};
  }
};

struct unit {
  ring_memory* memory;
  ats_invalidations<2>* devices;
  std::uint64_t now;

  command_outcome apply(const command& c) noexcept {
    if (invalidate_cache(cache, c)) return command_outcome::done;
    return carry_out_for_devices(
        *devices, c, now, [](const ats_invalidate&) noexcept {},
        [](pcie::requester_id) noexcept {});
  }
  bool store(std::uint64_t at, std::uint64_t data, unsigned bytes) noexcept {
    return store_completion<device_order>(*memory, at, data, bytes);
  }
  void interrupt() noexcept {}
};

template <class Codec>
std::uint32_t use(std::uint32_t* registers, std::uint64_t first, std::uint64_t last) {
  const Codec codec{};
  command_producer<Codec, device_order, tail_register, head_register> producer{
      codec, ring, {registers}, {registers + 1}, {done_word, 0x1000}};
  const invalidation_range<bus_space> range{bus_addr{first}, bus_addr{last}, 1 << 12, false};
  sync_token token;
  if (producer.invalidate(3, std::span<const invalidation_range<bus_space>>{&range, 1}) !=
      posted::posted) {
    return 1;
  }
  if (producer.post(command::one_device(static_cast<std::uint32_t>(first))) != posted::posted) {
    return 2;
  }
  if (producer.invalidate_device(5, std::span<const invalidation_range<bus_space>>{&range, 1}) !=
      posted::posted) {
    return 3;
  }
  if (producer.sync(token) != posted::posted) return 4;
  if (!producer.health()) producer.restart();

  ring_memory memory;
  ats_invalidations<2> devices;
  unit handler{&memory, &devices, last};
  command_consumer<Codec, device_order, ring_memory> consumer{codec, memory};
  consumer.enable(host_phys{0}, 64);
  consumer.write_tail(registers[0]);
  const auto result = consumer.poll(handler);
  if (consumer.stopped()) consumer.resume();
  return result.commands + consumer.fault().code + (producer.done(token) ? 1U : 0U);
}

}  // namespace

extern "C" std::uint32_t use_vtd_ring(std::uint32_t* r, std::uint64_t a, std::uint64_t z) {
  return use<vtd::command_codec>(r, a, z);
}
extern "C" std::uint32_t use_amd_ring(std::uint32_t* r, std::uint64_t a, std::uint64_t z) {
  return use<amd::command_codec>(r, a, z);
}
extern "C" std::uint32_t use_smmuv3_ring(std::uint32_t* r, std::uint64_t a, std::uint64_t z) {
  return use<smmuv3::command_codec>(r, a, z);
}
extern "C" std::uint32_t use_riscv_ring(std::uint32_t* r, std::uint64_t a, std::uint64_t z) {
  return use<riscv::command_codec>(r, a, z);
}

extern "C" std::uint64_t use_ats(std::uint64_t a, std::uint64_t raw) {
  static constinit ats_device<iotlb<4, 2>, 2> device{pcie::requester_id{1, 0, 0}};
  iotlb_hit<host_space> hit;
  if (device.find({}, bus_addr{a}, phasebit::access::write, hit) == ats_answer::translated) {
    return hit.target.value();
  }
  const auto request = device.request({}, bus_addr{a}, phasebit::access::write);
  if (!request) return 0;
  page_lookup<host_space> found;
  found.status = walk_status::mapped;
  found.page_shift = 21;
  found.permissions = 3;
  static_cast<void>(device.complete(ats_answer_of(*request, found)));
  const unsigned running = device.begin_access();
  static_cast<void>(device.invalidate({request->requester, 1, false, 0, ats_invalidate_body{raw}}));
  device.end_access(running);
  const auto completion = device.take_completion();
  return completion ? completion->itags : 0;
}

extern "C" std::uint64_t use_pri(std::uint64_t a, std::uint16_t group) {
  static constinit pri_device<4> device{pcie::requester_id{1, 0, 0}, 4};
  static constinit pri_queue<5> queue{};
  device.enable(2);
  const auto opened = device.open_group();
  if (!opened) return 0;
  const auto request = device.request(*opened, {}, a, phasebit::access::read, true);
  if (!request) return 1;
  static_cast<void>(queue.take(*request));
  const auto next = queue.next();
  if (!next) return 2;
  pri_response answer = respond(*next, page_response_code::success);
  answer.group = group;
  return device.respond(answer) ? 3 : 4;
}
