"""The accounts and regions in which training jobs are watched."""

from __future__ import annotations

from collections.abc import Sequence

from botocore.config import Config as ClientConfig

from watcher.arn import Arn
from watcher.aws.session import CLIENT_CONFIG, Answered, Aws, Role
from watcher.config.settings import Account


class Accounts:
    """`home` is the account and region of Watcher itself: of its queue and its store. Its jobs are watched,
    too.

    Safe to use from several threads.
    """

    def __init__(
        self,
        region: str = "",
        members: Sequence[Account] = (),
        answered: Answered | None = None,
        config: ClientConfig = CLIENT_CONFIG,
    ) -> None:
        self.home = Aws(region, answered=answered, config=config)
        self._members, self._answered, self._config = members, answered, config
        self._places: dict[tuple[str, str], Aws] = {}
        self._home_account = ""
        """The account ID of `home`; empty until an answer has named it."""

    @property
    def places(self) -> list[Aws]:
        """One for each account and region; the first is home."""
        listed = [self._place(member, region) for member in self._members for region in self._regions(member)]
        return list(dict.fromkeys([self.home, *listed]))

    def of(self, arn: str) -> Aws:
        """The account and region in an ARN."""
        thing = Arn.parse(arn)
        member = next((m for m in self._members if m.role_arn and m.account == thing.account), None)
        return self._place(member or Account(), thing.region)

    def covers(self, arn: str) -> bool:
        """Whether the settings name the account and the region in an ARN.

        No setting names the account of `home`. Until `learn` has told it, every account that is not a
        member's counts as home.
        """
        thing = Arn.parse(arn)
        if any(thing.account == m.account and thing.region in self._regions(m) for m in self._members):
            return True
        if any(thing.account == m.account for m in self._members):
            return False
        if self._home_account and thing.account != self._home_account:
            return False
        own = (m for m in self._members if not m.role_arn)
        return thing.region == self.home.region or any(thing.region in self._regions(m) for m in own)

    def learn(self, arn: str) -> None:
        """Learn the account ID of `home` from the ARN of a job that SageMaker has returned."""
        if not self._home_account:
            account = Arn.parse(arn).account
            if all(m.account != account for m in self._members):
                self._home_account = account

    def _regions(self, member: Account) -> Sequence[str]:
        return member.regions or (self.home.region,)

    def renew(self) -> None:
        """Go through the credential chain again, everywhere."""
        for place in self.places:
            place.renew()

    def _place(self, member: Account, region: str) -> Aws:
        if not member.role_arn and region == self.home.region:
            return self.home
        key = (member.role_arn, region)
        if key not in self._places:
            role = Role(member.role_arn, member.external_id.get_secret_value(), self.home)
            # If two threads get here at the same time, both use the one that is set first.
            place = Aws(region, role if member.role_arn else None, self._answered, self._config)
            self._places.setdefault(key, place)
        return self._places[key]
