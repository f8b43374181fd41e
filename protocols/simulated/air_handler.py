"""A small physical model of an air handler with three zones, minute by minute.

It behaves like a measured multi-zone VAV unit: at night the fan is off and every temperature
drifts towards the building's; from 6 to 18 o'clock the fan holds the duct pressure, mixed air comes
from an economiser, and coils hold the supply air at its set point. What the zones need drives the
fan. Temperatures in °C, signals from 0 to 1, pressure in Pa, one step a minute.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from protocols.simulated.noise import noise

MINUTES_A_DAY: Final = 1_440
ZONES: Final = 3
PRESSURE_SET_POINT: Final = 349.0
"""1.4 inches of water."""
ZONE_SET_POINT: Final = 22.5

_FAN_HEAT: Final = 0.6
_COOLING_SPAN: Final = 14.5
_HEATING_SPAN: Final = 13.0
_REHEAT_SPAN: Final = 12.0
_LEAST_OUTDOOR: Final = 0.4
_ECONOMISER_LIMIT: Final = 21.0
_STANDBY_SPEED: Final = 0.2
_RADIATOR_BELOW: Final = 21.8


@dataclass(slots=True)
class Zone:
    """The state of one zone and its box."""

    gain: float
    temperature: float = 22.5
    flow: float = 0.0
    reheat: float = 0.0
    discharge: float = 22.0


@dataclass(slots=True)
class State:
    """The state of the air handler."""

    set_point: float = 12.8
    outdoor: float = 10.0
    running: bool = False
    supply: float = 21.5
    mixed: float = 21.5
    returned: float = 22.5
    speed: float = _STANDBY_SPEED
    pressure: float = 0.0
    damper: float = 0.0
    cooling: float = 0.0
    heating: float = 0.0
    zones: tuple[Zone, ...] = field(default_factory=tuple)


def is_occupied(minute: int) -> bool:
    """Tell whether the building is in use."""
    return 6 * 60 <= minute < 18 * 60


def simulate(outdoor: Sequence[float], set_point: float, seed: int) -> list[dict[str, float]]:
    """Simulate the last day of `outdoor` (a value a minute), the time before to settle.

    Gives one mapping a minute, from midnight.
    """
    gains = [2.0 + 0.5 * noise(seed, zone) for zone in range(ZONES)]
    state = State(set_point=set_point, zones=tuple(Zone(gain) for gain in gains))
    first = len(outdoor) - MINUTES_A_DAY
    rows = []
    for at, temperature in enumerate(outdoor):
        state.outdoor = temperature
        minute = (at - first) % MINUTES_A_DAY
        step(state, minute, noise(seed + 7, minute))
        if at >= first:
            rows.append(row(state))
    return rows


def step(state: State, minute: int, ripple: float) -> None:
    """Advance by one minute."""
    state.running = is_occupied(minute)
    for number, zone in enumerate(state.zones):
        _step_zone(state, zone, minute + 45 * number)
    if state.running:
        _run_fan(state, ripple)
        _mix(state)
        _condition(state)
    else:
        _rest(state)


def _step_zone(state: State, zone: Zone, minute: int) -> None:
    """Balance a zone over a minute: people and sun, the walls, the air that is blown in."""
    busy = 0.25 + (0.75 if is_occupied(minute) else 0.0)
    afternoon = max(0.0, 1 - abs(minute - 14 * 60) / 300)
    gain = zone.gain * (busy + 0.45 * afternoon) - 0.6
    walls = (state.outdoor - zone.temperature) / 45
    radiator = max(0.0, _RADIATOR_BELOW - zone.temperature)
    air = 0.42 * zone.flow * (zone.discharge - zone.temperature)
    zone.temperature += (gain + walls + radiator + air) / 60
    need = zone.temperature - ZONE_SET_POINT
    wanted = min(1.0, max(0.3, 0.55 + 0.5 * need)) if state.running else 0.0
    zone.flow += 0.2 * (wanted - zone.flow)
    cold = min(1.0, max(0.0, (-0.4 - need) * 0.9)) if state.running else 0.0
    zone.reheat += 0.2 * (cold - zone.reheat)
    aim = state.supply + _REHEAT_SPAN * zone.reheat if state.running else zone.temperature - 0.5
    zone.discharge += (0.3 if state.running else 0.02) * (aim - zone.discharge)


def _run_fan(state: State, ripple: float) -> None:
    flow = sum(zone.flow for zone in state.zones) / len(state.zones)
    state.speed += _limited(0.49 + 0.45 * flow - state.speed, 0.08)
    aim = PRESSURE_SET_POINT * min(1.0, state.speed / 0.5) + 22 * ripple
    state.pressure += 0.6 * (aim - state.pressure)


def _mix(state: State) -> None:
    """Take as much outdoor air as brings the mixture nearest to the set point."""
    warm = sum(zone.temperature for zone in state.zones) / len(state.zones) + 0.2
    state.returned += 0.15 * (warm - state.returned)
    aim = _LEAST_OUTDOOR
    if state.outdoor < _ECONOMISER_LIMIT and state.outdoor < state.returned - 0.5:
        share = (state.returned - state.set_point + _FAN_HEAT) / (state.returned - state.outdoor)
        aim = min(1.0, max(_LEAST_OUTDOOR, share / 0.9))
    state.damper += _limited(aim - state.damper, 0.1)
    share = 0.9 * state.damper
    mixed = share * state.outdoor + (1 - share) * state.returned
    state.mixed += 0.4 * (mixed - state.mixed)


def _condition(state: State) -> None:
    """Hold the supply air with one coil or the other; valves move at most 15 % a minute."""
    excess = state.mixed + _FAN_HEAT - state.set_point
    cooling = min(1.0, (max(0.0, excess) / _COOLING_SPAN) ** 1.6)
    heating = min(1.0, (max(0.0, -excess) / _HEATING_SPAN) ** 0.5)
    state.cooling += _limited(cooling - state.cooling, 0.15)
    state.heating += _limited(heating - state.heating, 0.15)
    cooled = _COOLING_SPAN * state.cooling ** (1 / 1.6)
    heated = _HEATING_SPAN * state.heating**2
    state.supply += 0.35 * (state.mixed + _FAN_HEAT - cooled + heated - state.supply)


def _rest(state: State) -> None:
    """Stand still: dampers and valves close, air in the ducts takes the building's temperature."""
    inside = sum(zone.temperature for zone in state.zones) / len(state.zones)
    state.speed += _limited(_STANDBY_SPEED - state.speed, 0.15)
    state.pressure *= 0.3
    state.damper += _limited(-state.damper, 0.25)
    state.cooling += _limited(-state.cooling, 0.3)
    state.heating += _limited(-state.heating, 0.3)
    duct = 0.95 * inside + 0.05 * state.outdoor
    state.supply += 0.0108 * (duct + 0.3 - state.supply)
    state.mixed += 0.012 * (duct - 0.4 - state.mixed)
    state.returned += 0.02 * (inside + 0.3 - state.returned)


def row(state: State) -> dict[str, float]:
    """Note the state as the points of the air handler and its zones show it."""
    shown = {
        "supply_temp": state.supply,
        "supply_temp_setpoint": state.set_point,
        "outdoor_temp": state.outdoor,
        "mixed_temp": state.mixed,
        "return_temp": state.returned,
        "supply_fan_status": float(state.running),
        "return_fan_status": float(state.running),
        "supply_fan_speed": state.speed * 100,
        "return_fan_speed": max(_STANDBY_SPEED, 0.8 * state.speed) * 100,
        "exhaust_damper": state.damper * 100,
        "outdoor_damper": state.damper * 100,
        "return_damper": (1 - state.damper) * 100,
        "cooling_valve": state.cooling * 100,
        "heating_valve": state.heating * 100,
        "static_pressure_setpoint": PRESSURE_SET_POINT,
        "static_pressure": state.pressure,
        "occupied": float(state.running),
    }
    for number, zone in enumerate(state.zones, 1):
        shown |= {
            f"zone{number}_temperature": zone.temperature,
            f"zone{number}_airflow": 1_800 * zone.flow,
            f"zone{number}_damper": zone.flow * 100,
            f"zone{number}_reheat_valve": zone.reheat * 100,
            f"zone{number}_discharge_temp": zone.discharge,
        }
    return shown


def _limited(change: float, limit: float) -> float:
    return min(limit, max(-limit, change))
