"""Statistics of a table: counted per part, merged exactly, summarised per source and overall."""

from tokenmill.statistics.merge import MergedStatistics, merge_parts, read_statistics
from tokenmill.statistics.part import PartStatistics

__all__ = ["MergedStatistics", "PartStatistics", "merge_parts", "read_statistics"]
