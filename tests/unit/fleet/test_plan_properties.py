# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The properties of every plan, on thousands of situations."""

from __future__ import annotations

import types
import typing as t

import plan_properties
import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.fleet import plan
from hypothesis import HealthCheck, given, settings

SLOW_IS_FINE = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


@pytest.mark.parametrize("holds", plan_properties.PROPERTIES, ids=lambda each: each.__name__)
def test_always(holds: t.Callable[[types.ModuleType, plan_properties.Case], None]) -> None:
    @settings(max_examples=300, deadline=None, suppress_health_check=SLOW_IS_FINE)
    @given(case=plan_properties.cases())
    def check(case: plan_properties.Case) -> None:
        holds(plan, case)

    check()
