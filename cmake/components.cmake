# SPDX-License-Identifier: BSL-1.0
#
# The component table. It alone lists the components of the library: the CMake targets, the components
# of the package and the layering check are made from it.
#
#   component | layer | freestanding | folder below include/phasebit | components it includes and links
#
# A component includes components of lower layers, and components of its own layer that stand above it in
# this table. Both must be named in the last column. "freestanding: yes" means that the component needs no
# operating system, no heap and no exceptions; the freestanding tests cover it.
set(PHASEBIT_COMPONENT_TABLE
  "core                 | 0 | yes | core                 |"
  "ring                 | 1 | yes | ring                 | core"
  "memory               | 1 | yes | memory               | core"
  "pcie                 | 2 | yes | pcie                 | core ring memory"
  "block                | 2 | yes | block                | core memory"
  "accel                | 2 | yes | accel                | core memory"
  "iommu                | 3 | yes | iommu                | core ring memory pcie"
  "sriov                | 3 | yes | sriov                | core memory pcie"
  "nvme                 | 3 | yes | nvme                 | core ring memory pcie block sriov"
  "virtio               | 3 | yes | virtio               | core ring memory pcie block"
  "posix                | 3 | no  | posix                | core memory pcie"
  "backend_simulated    | 4 | no  | backend/simulated    | core ring memory pcie block iommu nvme posix"
  "backend_mmio         | 4 | yes | backend/mmio         | core ring memory pcie"
  "backend_mmio_linux   | 4 | no  | backend/mmio_linux   | core ring memory pcie posix"
  "backend_vfio         | 4 | no  | backend/vfio         | core ring memory pcie posix"
  "backend_qtest        | 4 | no  | backend/qtest        | core ring memory pcie posix"
  "testing              | 5 | no  | testing              | core ring memory pcie block iommu nvme"
  "transport_vhost_user | 5 | no  | transport/vhost_user | core ring memory pcie block virtio posix"
  "transport_vfio_user  | 5 | no  | transport/vfio_user  | core ring memory pcie block nvme posix"
  "systems              | 5 | yes | systems              | core ring memory pcie block accel iommu nvme sriov"
  "hosted               | 5 | no  | hosted               | core ring memory pcie block accel iommu nvme posix backend_simulated backend_mmio backend_mmio_linux backend_vfio backend_qtest"
)
