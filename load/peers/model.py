"""Tables of the synchronous design and of its queued variant, and the engine that both use.

MariaDB over a Unix socket, InnoDB, every commit synced (innodb_flush_log_at_trx_commit=1 is set by
whoever starts the server). Columns and indexes are those that the design's requests touch.
"""

import os

from sqlalchemy import (
    BigInteger, Boolean, Column, DateTime, Float, Index, Integer, Numeric, String, Text, UniqueConstraint,
    create_engine,
)
from sqlalchemy.orm import declarative_base

DATABASE = "lab"
Base = declarative_base()


class Rule(Base):
    __tablename__ = "t_alert_rules"
    id = Column(BigInteger, primary_key=True)
    rule_type = Column(String(50), nullable=False)
    physical_sign = Column(String(50))
    threshold_min = Column(Float)
    threshold_max = Column(Float)
    alert_message = Column(Text)
    severity_level = Column(String(16), nullable=False)
    is_deleted = Column(Boolean, nullable=False, default=False)
    __table_args__ = (Index("rule_by_type", "rule_type", "is_deleted"),)


class User(Base):
    """Who wears which watch."""

    __tablename__ = "sys_user"
    id = Column(BigInteger, primary_key=True)
    user_name = Column(String(64))
    device_sn = Column(String(50), index=True)
    org_id = Column(BigInteger)
    customer_id = Column(BigInteger)


class Alert(Base):
    __tablename__ = "t_alert_info"
    id = Column(BigInteger, primary_key=True, autoincrement=True)
    rule_id = Column(BigInteger, nullable=False, index=True)
    alert_type = Column(String(100), nullable=False, index=True)
    device_sn = Column(String(20), nullable=False, index=True)
    alert_timestamp = Column(DateTime)
    alert_desc = Column(String(2000))
    severity_level = Column(String(50))
    alert_status = Column(String(50))
    latitude = Column(Numeric(12, 8))
    longitude = Column(Numeric(12, 8))
    altitude = Column(Numeric(10, 2))
    health_id = Column(BigInteger)
    user_id = Column(BigInteger)
    org_id = Column(BigInteger)
    customer_id = Column(BigInteger)
    create_time = Column(DateTime)
    __table_args__ = (
        Index("alert_by_health", "health_id", "user_id"),
        Index("alert_by_customer", "customer_id", "alert_status"),
        Index("alert_by_org", "org_id", "user_id"),
    )


class Health(Base):
    __tablename__ = "t_user_health_data"
    id = Column(BigInteger, primary_key=True, autoincrement=True)
    device_sn = Column(String(255), nullable=False)
    timestamp = Column(DateTime, nullable=False)
    heart_rate = Column(Integer)
    pressure_high = Column(Integer)
    pressure_low = Column(Integer)
    blood_oxygen = Column(Integer)
    temperature = Column(Float)
    stress = Column(Integer)
    step = Column(Integer)
    distance = Column(Float)
    calorie = Column(Float)
    latitude = Column(Numeric(10, 6))
    longitude = Column(Numeric(10, 6))
    altitude = Column(Float)
    sleep_data = Column(Text)
    exercise_daily_data = Column(Text)
    exercise_week_data = Column(Text)
    scientific_sleep_data = Column(Text)
    workout_data = Column(Text)
    upload_method = Column(String(16))
    user_id = Column(BigInteger)
    org_id = Column(BigInteger)
    customer_id = Column(BigInteger)
    create_time = Column(DateTime)
    __table_args__ = (
        UniqueConstraint("device_sn", "timestamp", name="health_by_device"),
        Index("health_by_time", "timestamp"),
        Index("health_by_customer", "customer_id", "device_sn", "timestamp"),
    )


def engine(connections, database=DATABASE):
    """A pool that never makes a thread wait: as many connections as threads."""
    socket = os.environ["LAB_MARIADB_SOCKET"]
    user = os.environ["LAB_MARIADB_USER"]
    url = f"mysql+mysqldb://{user}@localhost/{database}?unix_socket={socket}&charset=utf8mb4"
    return create_engine(url, pool_size=connections, max_overflow=0, pool_pre_ping=False)
