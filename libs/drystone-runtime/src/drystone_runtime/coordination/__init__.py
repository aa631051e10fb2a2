# SPDX-License-Identifier: Apache-2.0
"""The coordinator's two forms (embedded, etcd) and what every service does with one: register, elect, keep a cached map."""
