"""Which topics feed which points, and what the messages say of them. No I/O."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from protocols.driver import PointSource
from protocols.mqtt.codec import Arrival, Feed, Rows, decode_document, document_in, refuse
from protocols.mqtt.counter import Counter
from protocols.mqtt.filters import covers, uncovered
from protocols.mqtt.latest import Latest
from protocols.mqtt.options import Availability, MqttDevice, MqttPoint
from protocols.mqtt.path import Missing, parse
from protocols.mqtt.presence import Presence, Will
from protocols.mqtt.shaped import Shaped
from shared.errors import OptionsWrong
from shared.model import PointType
from shared.quality import Reason, bad


@dataclass(slots=True)
class Topic:
    """What hangs on one topic."""

    feeds: list[Feed] = field(default_factory=list)
    wills: list[Will] = field(default_factory=list)
    counter: Counter | None = None

    @property
    def reads_json(self) -> bool:
        """Tell whether its messages are looked into as JSON."""
        return self.counter is not None or any(feed.steps for feed in self.feeds)


class Plan:
    """The points of a device by topic; knows what was told last."""

    def __init__(self, points: Sequence[PointSource], options: MqttDevice) -> None:
        """Sort the points by topic; raises `OptionsWrong`."""
        self.latest = Latest(len(points))
        self._presence = Presence()
        self._max_payload_bytes = options.max_payload_bytes
        sources = [_checked(one) for one in points]
        self._topics = _topics(points, sources)
        for will_topic, will in _wills(sources, options.availability):
            self._topics[will_topic].wills.append(will)
        self.shaped = Shaped.of(points, sources, options)
        told = [one.filter for one in options.filters]
        needed = [one for one in told if any(covers(one, topic) for topic in self._topics)]
        self.filters = (
            *needed,
            *uncovered(self._topics, needed),
            *(self.shaped.filters if self.shaped is not None else ()),
        )

    def counter(self, topic: str) -> Counter | None:
        """Give the counter in the messages of a topic, if there is one."""
        found = self._topics.get(topic)
        return found.counter if found is not None else None

    def counters(self) -> Mapping[str, Counter]:
        """Give all counters by topic."""
        found = {name: topic.counter for name, topic in self._topics.items()}
        return {name: counter for name, counter in found.items() if counter is not None}

    def is_wanted(self, topic: str) -> bool:
        """Tell whether something that is subscribed covers a topic."""
        return topic in self._topics or any(covers(one, topic) for one in self.filters)

    def hear(self, topic: str, payload: bytes, arrival: Arrival, rows: Rows) -> None:
        """Append what a message says of the points; it can be anything and nothing is raised."""
        found = self._topics.get(topic)
        is_too_long = len(payload) > self._max_payload_bytes
        if found is not None and is_too_long:
            refuse(found.feeds, arrival, Reason.TOO_LONG, rows)
        elif found is not None:
            self._hear(found, payload, arrival, rows)
        if self.shaped is not None and not is_too_long:
            self.shaped.hear(topic, payload, arrival, rows)

    def deny(self, refused: Iterable[str], arrival: Arrival, rows: Rows) -> None:
        """Append a bad reading for each point whose subscription the broker refused."""
        for one in refused:
            for name, topic in self._topics.items():
                if covers(one, name):
                    refuse(topic.feeds, arrival, Reason.ACCESS_DENIED, rows)
            if self.shaped is not None and one in self.shaped.filters:
                self.shaped.deny(arrival, rows)

    def _hear(self, topic: Topic, payload: bytes, arrival: Arrival, rows: Rows) -> None:
        for will in topic.wills:
            for series in self._presence.hear(will, payload):
                rows.tell(series, (math.nan, Reason.LINK_DOWN), arrival, None)
        feeds = self._believed(topic.feeds, arrival)
        document = document_in(payload) if topic.reads_json else Missing.MISFIT
        if topic.counter is None:
            decode_document(feeds, payload, document, arrival, rows)
            return
        lost = topic.counter.step(document)
        told = Rows()
        decode_document(feeds, payload, document, arrival, told)
        if lost:
            gap_at_us = topic.counter.gap_at(min(told.observed_at, default=arrival.at_us))
            for series in topic.counter.series:
                rows.add(series, gap_at_us, math.nan, bad(Reason.MESSAGES_LOST))
        rows.extend(told)
        topic.counter.last_at_us = max(told.observed_at, default=arrival.at_us)

    def _believed(self, feeds: Sequence[Feed], arrival: Arrival) -> Sequence[Feed]:
        if self._presence.is_everybody_there:
            return feeds
        is_retained = arrival.is_retained
        return [
            feed
            for feed in feeds
            if self._presence.is_believed(feed.series, is_retained=is_retained)
        ]


def _checked(source: PointSource) -> MqttPoint:
    options = MqttPoint.model_validate(source.options)
    problem = options.problem_for(source.point.type)
    if problem:
        msg = f"{source.point.key}: {problem}"
        raise OptionsWrong(msg)
    return options


def _topics(points: Sequence[PointSource], sources: Sequence[MqttPoint]) -> defaultdict[str, Topic]:
    topics: defaultdict[str, Topic] = defaultdict(Topic)
    counted: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for series, (source, options) in enumerate(zip(points, sources, strict=True)):
        if not options.topic:
            continue
        topics[options.topic].feeds.append(_feed(series, source.point.type, options))
        if options.sequence_path is not None:
            counted[options.topic][series] = options.sequence_path
    for name, paths in counted.items():
        if len(set(paths.values())) > 1:
            msg = f"{name}: its points name several counters (sequence_path); name one"
            raise OptionsWrong(msg)
        topics[name].counter = Counter(parse(next(iter(paths.values()))), tuple(paths))
    return topics


def _feed(series: int, kind: PointType, options: MqttPoint) -> Feed:
    return Feed(
        series,
        kind,
        parse(options.path),
        None if options.time_path is None else parse(options.time_path),
        options.time_unit,
        options.binary,
        options.scaling(),
    )


def _wills(sources: Sequence[MqttPoint], usual: Availability | None) -> Iterable[tuple[str, Will]]:
    told: defaultdict[Availability, list[int]] = defaultdict(list)
    for series, options in enumerate(sources):
        availability = options.availability or usual
        if availability is not None:
            told[availability].append(series)
    return [(one.topic, Will.of(one, series)) for one, series in told.items()]
