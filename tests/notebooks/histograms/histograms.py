# %% [markdown]
# # smdebug's own pictures of how a training used its machine

# %%
import os

from smdebug.profiler.analysis.notebook_utils.heatmap import Heatmap
from smdebug.profiler.analysis.notebook_utils.metrics_histogram import MetricsHistogram
from smdebug.profiler.analysis.notebook_utils.timeline_charts import TimelineCharts
from smdebug.profiler.analysis.notebook_utils.training_job import TrainingJob

# %%
job = TrainingJob(os.environ["JOB_NAME"], os.environ["AWS_DEFAULT_REGION"])
job.wait_for_sys_profiling_data_to_be_available()
reader = job.get_systems_metrics_reader()

# %%
histogram = MetricsHistogram(reader)
histogram.plot(
    starttime=0,
    endtime=reader.get_timestamp_of_latest_available_file(),
    select_dimensions=["CPU", "GPU", "I/O"],
    select_events=["total"],
)

# %%
reader.refresh_event_file_list()
every = MetricsHistogram(reader)
every.plot()

# %%
charts = TimelineCharts(reader, None, select_dimensions=["CPU", "GPU"], select_events=["total"])

# %%
heatmap = Heatmap(reader, None, select_dimensions=["CPU", "GPU"], select_events=["total"], plot_height=200)
