# SPDX-License-Identifier: BSL-1.0
#
# Install, export, package files. Everything goes to architecture-independent places: there is
# nothing compiled in it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/phasebit)

list(TRANSFORM PHASEBIT_PACKAGED_COMPONENTS PREPEND phasebit_ OUTPUT_VARIABLE packaged_targets)
install(TARGETS ${packaged_targets} EXPORT phasebit-targets
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT phasebit-targets NAMESPACE phasebit:: DESTINATION ${package_dir})

# A set of its own, so that only who asks for the component must have fmt and Boost.
if(TARGET phasebit_hosted)
  install(TARGETS phasebit_hosted EXPORT phasebit-hosted-targets
    FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT phasebit-hosted-targets NAMESPACE phasebit:: DESTINATION ${package_dir})
endif()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/phasebit-config.cmake.in
  ${PROJECT_BINARY_DIR}/phasebit-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/phasebit-config-version.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/phasebit-config.cmake
  ${PROJECT_BINARY_DIR}/phasebit-config-version.cmake DESTINATION ${package_dir})

# The prefix is found from where the file lies, so that an installed tree can be moved.
file(RELATIVE_PATH pc_to_prefix /prefix/${CMAKE_INSTALL_DATADIR}/pkgconfig /prefix)
configure_file(${PROJECT_SOURCE_DIR}/cmake/phasebit.pc.in ${PROJECT_BINARY_DIR}/phasebit.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/phasebit.pc
  DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE
  DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/phasebit)
