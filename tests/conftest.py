"""What all tests share: hypothesis must not judge a shared machine's speed."""

from hypothesis import settings

settings.register_profile("marquee", deadline=None)
settings.load_profile("marquee")
