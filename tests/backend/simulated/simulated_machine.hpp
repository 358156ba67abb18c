// SPDX-License-Identifier: BSL-1.0
// The simulated machine in the place of QEMU's, for the bodies of interop/iommu/body.hpp: the same
// driver, tables and commands, with an emulated IOMMU in front of simulated disks.
//
// A machine that derives from simulated_machine<Emulated> has unit, format_type, format(unit),
// code(wrong) and malformed(entry), as in rig.hpp, and open(emulated, tables, host).
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>

#include <interop/iommu/body.hpp>

namespace phasebit_test {

namespace sim = phasebit::backend::simulated;

template <class Emulated>
struct simulated_machine {
  using emulated = Emulated;
  static constexpr bool simulated = true;
  // Behaviour of our IOMMUs that some of QEMU's lack.
  static constexpr bool logs_cached_refusals = true;
  static constexpr bool claims_pasids = false;
  static bool looks_at_upper_bits() { return true; }
  static constexpr bool forgets_by_range = true;
  static constexpr bool knows_malformed = true;
};
template <class Machine> concept SimulatedMachine = requires { requires Machine::simulated; };

template <SimulatedMachine Machine>
class rig<Machine> {
 public:
  using unit_type = typename Machine::unit;
  static constexpr std::size_t disks = 2;

  rig() {
    for (std::uint32_t i = 0; i != disks; ++i) {
      images_[i].resize(image::blocks * 512);
      for (std::uint64_t lba = 0; lba != image::blocks; ++lba) {
        fill_block(std::span{images_[i]}.subspan(lba * 512, 512), lba, i + 1);
      }
      media_[i].emplace(images_[i]);
      functions_.push_back(must(
          sim::add_nvme_disk(fabric_, *media_[i], {.device = static_cast<std::uint8_t>(4 + i)})));
    }
    tables_memory_ = must(ram().allocate(std::size_t{128} << 12, 16 << 12));
    tables_.emplace(tables_memory_.bytes, host_phys{tables_memory_.bus.value()});
    unit_.emplace(must(Machine::open(emulated_, *tables_, functions_[0])));
  }
  rig(const rig&) = delete;
  rig& operator=(const rig&) = delete;

  [[nodiscard]] unit_type& unit() { return *unit_; }
  [[nodiscard]] typename Machine::emulated& emulated() { return emulated_; }
  [[nodiscard]] sim::fabric& fabric() { return fabric_; }
  [[nodiscard]] sim::dma_memory& ram() { return fabric_.memory(); }
  [[nodiscard]] sim::function open_disk(unsigned n) { return functions_[n]; }
  [[nodiscard]] std::vector<iommu::translation_fault> faults() {
    std::vector<iommu::translation_fault> all;
    while (all.size() < 4096) {
      const auto one = unit_->next_fault();
      if (!one) break;
      all.push_back(*one);
    }
    return all;
  }

 private:
  sim::fabric fabric_;
  typename Machine::emulated emulated_{fabric_};
  std::array<std::vector<std::byte>, disks> images_;
  std::array<std::optional<phasebit::block::memory_media>, disks> media_;
  std::vector<sim::function> functions_;
  dma_region tables_memory_;
  std::optional<unit_tables> tables_;
  std::optional<unit_type> unit_;
};

template <SimulatedMachine Machine>
class translated_function<Machine> : public sim::function {
 public:
  using domain_type = domain<Machine>;

  translated_function(const sim::function& f, sim::dma_memory& ram, domain_type& d,
                      std::uint64_t iova)
      : sim::function(f), memory_(ram, d, iova) {}

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return memory_.allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { memory_.release(region); }

 private:
  translated_memory<sim::dma_memory, domain_type> memory_;
};

}  // namespace phasebit_test
