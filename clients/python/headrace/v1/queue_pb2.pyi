import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Queue(_message.Message):
    __slots__ = ("name", "counts", "oldest_ready_age", "rates", "paused", "pause_time", "pause_reason", "worker_count")
    class Counts(_message.Message):
        __slots__ = ("scheduled", "queued", "processing", "retrying", "dead", "succeeded_total", "failed_total", "cancelled_total", "expired_total")
        SCHEDULED_FIELD_NUMBER: _ClassVar[int]
        QUEUED_FIELD_NUMBER: _ClassVar[int]
        PROCESSING_FIELD_NUMBER: _ClassVar[int]
        RETRYING_FIELD_NUMBER: _ClassVar[int]
        DEAD_FIELD_NUMBER: _ClassVar[int]
        SUCCEEDED_TOTAL_FIELD_NUMBER: _ClassVar[int]
        FAILED_TOTAL_FIELD_NUMBER: _ClassVar[int]
        CANCELLED_TOTAL_FIELD_NUMBER: _ClassVar[int]
        EXPIRED_TOTAL_FIELD_NUMBER: _ClassVar[int]
        scheduled: int
        queued: int
        processing: int
        retrying: int
        dead: int
        succeeded_total: int
        failed_total: int
        cancelled_total: int
        expired_total: int
        def __init__(self, scheduled: _Optional[int] = ..., queued: _Optional[int] = ..., processing: _Optional[int] = ..., retrying: _Optional[int] = ..., dead: _Optional[int] = ..., succeeded_total: _Optional[int] = ..., failed_total: _Optional[int] = ..., cancelled_total: _Optional[int] = ..., expired_total: _Optional[int] = ...) -> None: ...
    class Rates(_message.Message):
        __slots__ = ("enqueued", "finished", "failed")
        ENQUEUED_FIELD_NUMBER: _ClassVar[int]
        FINISHED_FIELD_NUMBER: _ClassVar[int]
        FAILED_FIELD_NUMBER: _ClassVar[int]
        enqueued: float
        finished: float
        failed: float
        def __init__(self, enqueued: _Optional[float] = ..., finished: _Optional[float] = ..., failed: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_READY_AGE_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    PAUSE_TIME_FIELD_NUMBER: _ClassVar[int]
    PAUSE_REASON_FIELD_NUMBER: _ClassVar[int]
    WORKER_COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    counts: Queue.Counts
    oldest_ready_age: _duration_pb2.Duration
    rates: Queue.Rates
    paused: bool
    pause_time: _timestamp_pb2.Timestamp
    pause_reason: str
    worker_count: int
    def __init__(self, name: _Optional[str] = ..., counts: _Optional[_Union[Queue.Counts, _Mapping]] = ..., oldest_ready_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., rates: _Optional[_Union[Queue.Rates, _Mapping]] = ..., paused: bool = ..., pause_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pause_reason: _Optional[str] = ..., worker_count: _Optional[int] = ...) -> None: ...
