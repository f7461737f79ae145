"""Settings of n2i_train: learning to denoise from noisy scans."""

from xrmflow.config.training import TrainingSection


class N2iTrainSection(TrainingSection):
    """Network and training of Noise2Inverse."""
