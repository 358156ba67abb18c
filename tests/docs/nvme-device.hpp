// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/nvme-device.md.
#include <phasebit/block/bounce_pool.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/planned_media.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespaces.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

namespace block = phasebit::block;
namespace device = phasebit::nvme::device;

inline phasebit::identity_translator<phasebit::bus_space, phasebit::local_space> dma;
inline phasebit::no_interrupts interrupts;
inline std::array<std::byte, 1 << 20> memory;
inline block::memory_media media{memory};
inline device::single_namespace<block::memory_media> namespaces{media};
inline std::array<block::planned_operation, 64> operations;
inline block::planned_media slow{media, std::span{operations}};
inline device::single_namespace later{slow};
inline std::array<std::uint32_t, 130> words;
inline std::span<std::uint32_t> doorbells{words};
inline device::settings settings;
using media_type = block::memory_media;
inline std::array<std::byte, 2048 * 8> metadata;
inline std::array<std::uint8_t, 256> marks;
inline std::array<device::pending_command, 64> first_commands;
inline std::array<device::pending_command, 64> second_commands;
inline std::array<block::media_segment, 64> first_segments;
inline std::array<block::media_segment, 64> second_segments;
inline block::bounce_pool pool{std::span{memory}.first(128 * 1024), 64 * 1024};
inline std::array<device::poll_group_resources<decltype(later)>, 2> resources{{
    {&later, {first_commands, first_segments, &pool}},
    {&later, {second_commands, second_segments, &pool}},
}};
inline std::uint32_t offset = 0;
inline std::uint32_t value = 0;
