"""Noise schedules by name: functions that build a NoiseSchedule, one file each."""
